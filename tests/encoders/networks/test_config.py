"""Sizes in config.json: defaults, old spellings and errors."""

import pytest
from tiny_models import CLIP, FG_CLIP, assert_loads_as_the_golden, loaded, model_config, model_tensors, saved_model

from fgseg.encoders.networks.config import CLIP_END, CLIP_VOCABULARY, ClipConfig, FgClip2Config
from fgseg.errors import WeightsError


def clip_config(text=None, vision=None, **top):
    return ClipConfig.from_dict({"text_config": text or {}, "vision_config": vision or {}, **top})


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ({}, CLIP_END),
        ({"eos_token_id": 2, "pad_token_id": 1, "bos_token_id": 0}, CLIP_END),
        ({"eos_token_id": 2, "vocab_size": CLIP_VOCABULARY}, CLIP_END),
        ({"eos_token_id": 2, "vocab_size": 600}, 2),
        ({"eos_token_id": 443, "vocab_size": 444}, 443),
    ],
)
def test_the_legacy_end_token_2_is_49407_only_in_clips_own_vocabulary(text, end):
    assert clip_config(text).end_token == end


def test_a_checkpoint_with_the_legacy_end_and_pad_tokens_gives_the_golden_texts(tmp_path):
    config = model_config(FG_CLIP)
    config["text_config"] |= {"eos_token_id": 2, "pad_token_id": 1}
    assert_loads_as_the_golden(saved_model(tmp_path / "model", model_tensors(FG_CLIP), config), FG_CLIP)


def test_the_second_copy_of_a_config_section_takes_precedence_as_in_transformers(tmp_path):
    config = model_config(CLIP)
    config["text_config_dict"] = config["text_config"]
    config["text_config"] = {"hidden_size": 999, "num_attention_heads": 3, "model_type": "clip_text_model"}
    config["vision_config_dict"] = None
    assert_loads_as_the_golden(saved_model(tmp_path / "model", model_tensors(CLIP), config))


def test_the_defaults_of_a_config_are_those_of_clip_vit_b_32():
    config = ClipConfig.from_dict({})
    assert (config.side, config.patch, config.width, config.vocabulary, config.positions) == (224, 32, 512, 49408, 77)
    assert (config.text.width, config.text.heads, config.vision.width, config.vision.heads) == (512, 8, 768, 12)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"text_config": {"hidden_size": "wide"}}, r"text_config\.hidden_size: expected a number, got 'wide'"),
        ({"vision_config": {"patch_size": None}}, r"vision_config\.patch_size: expected a number, got None"),
        ({"vision_config": {"patch_size": [16, 16]}}, r"vision_config\.patch_size: expected a number"),
        ({"vision_config": {"patch_size": 0}}, r"patch_size: expected a whole number of at least 1, got 0"),
        ({"vision_config": {"patch_size": 256}}, "patch_size from 1 to image_size, 224, got 256"),
        ({"text_config": "sizes.json"}, "text_config: expected an object, got 'sizes.json'"),
        ({"projection_dim": None}, "projection_dim: expected a number, got None"),
        ({"text_config": {"eos_token_id": 600, "vocab_size": 600}}, "eos_token_id 600 is not in a vocabulary of 600"),
        ({"text_config": {"num_attention_heads": 7}}, "hidden_size must be a positive multiple of num_attention_heads"),
        (
            {"vision_config": {"num_hidden_layers": 0}},
            r"vision_config\.num_hidden_layers: expected .* at least 1, got 0",
        ),
        ({"vision_config": {"hidden_act": "swish"}}, "hidden_act: expected one of quick_gelu, .* got 'swish'"),
    ],
)
def test_an_invalid_config_is_refused_and_the_field_is_named(config, message):
    with pytest.raises(WeightsError, match=message):
        ClipConfig.from_dict(config)


def test_an_invalid_config_of_fgclip_2_is_refused_and_the_field_is_named():
    with pytest.raises(WeightsError, match=r"text_config\.longtext_len: expected a number, got 'long'"):
        FgClip2Config.from_dict({"text_config": {"longtext_len": "long"}})


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"text_config": ', "config.json: expected JSON, got"), ("[1, 2]", "expected a JSON object, got a list")],
)
def test_the_error_about_a_broken_config_names_the_file(tmp_path, text, message):
    folder = saved_model(tmp_path / "model", model_tensors(CLIP), {})
    (tmp_path / "model" / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=message):
        loaded(folder)
    (tmp_path / "model" / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match=r"config\.json: expected JSON"):
        loaded(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("projection_dim", -3, "projection_dim: expected a whole number of at least 1, got -3"),
        ("projection_dim", float("nan"), "projection_dim: expected a whole number of at least 1, got nan"),
        ("projection_dim", 3.5, "projection_dim: expected a whole number of at least 1, got 3.5"),
    ],
)
def test_an_impossible_size_is_refused(tmp_path, key, value, message):
    folder = saved_model(tmp_path / "own", model_tensors(CLIP), model_config(CLIP) | {key: value})
    with pytest.raises(WeightsError, match=message):
        loaded(folder)
