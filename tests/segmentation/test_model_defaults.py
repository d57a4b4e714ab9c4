import copy

import pytest
import torch
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, golden_encoder, model_config, model_tensors, saved_model

import fgseg
from fgseg.errors import WeightsError
from fgseg.prompts.word_lists import IMAGENET_TEMPLATES
from fgseg.scoring.resolution import parse_resolution
from fgseg.segmentation.model_defaults import model_defaults


def defaults_of(folder):
    return fgseg.load(folder, device="cpu", dtype="float32").defaults


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_every_model_has_words_templates_and_a_resolution(name):
    own = model_defaults(golden_encoder(name))
    assert str(parse_resolution(own.resolution)) == own.resolution
    assert own.background
    assert all("{}" in template for template in own.templates)


def test_a_models_own_background_and_templates_come_from_its_config(tmp_path):
    config = model_config(CLIP) | {
        "fgseg": {"background": ["nothing"], "templates": ["a {}", "the {}"], "refine": "guided"}
    }
    own = defaults_of(saved_model(tmp_path / "own", model_tensors(CLIP), config))
    clip, fg_clip_2 = model_defaults(golden_encoder(CLIP)), model_defaults(golden_encoder(FG_CLIP_2))
    assert own.background == ("nothing",)
    assert (own.refine, clip.refine) == ("guided", "none")
    assert own.templates == ("a {}", "the {}")
    assert len(clip.templates) == 80
    assert clip.background == fg_clip_2.background


def test_fg_clip_2_takes_one_sentence_on_a_processor_and_eighty_elsewhere():
    encoder = copy.copy(golden_encoder(FG_CLIP_2))
    light = model_defaults(encoder)
    assert light.templates == ("a photo of a {}.",)
    assert light.benchmark_templates == IMAGENET_TEMPLATES
    encoder.device = torch.device("cuda")
    assert model_defaults(encoder).templates == model_defaults(encoder).benchmark_templates == IMAGENET_TEMPLATES


def test_fg_clip_2s_own_templates_come_from_its_config_on_a_processor_too(tmp_path):
    config = model_config(FG_CLIP_2) | {"fgseg": {"templates": ["a {}", "the {}"]}}
    own = defaults_of(saved_model(tmp_path / "own", model_tensors(FG_CLIP_2), config))
    assert own.templates == own.benchmark_templates == ("a {}", "the {}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", 1.5, "fgseg.threshold: expected a number from 0 to 1, got 1.5"),
        ("refine", "magic", "fgseg.refine: expected one of none, guided, pamr, got 'magic'"),
        ("refine", "superpixel", "fgseg.refine: expected one of none, guided, pamr, got 'superpixel'"),
        ("background", "nothing", "fgseg.background: expected a list of strings, got str 'nothing'"),
        ("background", ["wall", " "], r"fgseg.background\[1\]"),
        ("background", ["wall", "wall"], "fgseg.background: expected each word once, got 'wall' twice"),
        ("templates", "a {}", "fgseg.templates: expected a list of strings, got str 'a {}'"),
        ("templates", ["a thing"], "templates.*'a thing'"),
        ("templates", [], "templates: expected"),
        ("resolution", None, "fgseg.resolution: expected text such as 'keep:448', got NoneType"),
        ("thresold", 0.5, "fgseg: expected some of background, .*, got thresold"),
        ("resolution", "huge", "got 'huge'"),
    ],
)
def test_a_default_that_cannot_be_followed_is_refused_with_the_config_it_stands_in(tmp_path, name, value, message):
    config = model_config(CLIP) | {"fgseg": {name: value}}
    folder = saved_model(tmp_path / "own", model_tensors(CLIP), config)
    with pytest.raises(WeightsError, match=rf"own.*: config.json: .*{message}"):
        defaults_of(folder)


@pytest.mark.parametrize("value", ["x", 5, [1], None])
def test_own_settings_that_are_no_object_are_refused(tmp_path, value):
    folder = saved_model(tmp_path / "own", model_tensors(FG_CLIP_2), model_config(FG_CLIP_2) | {"fgseg": value})
    with pytest.raises(WeightsError, match=r"own: config\.json: fgseg: expected an object"):
        defaults_of(folder)


def test_fg_clip_2_takes_own_settings_as_the_others_do(tmp_path):
    config = model_config(FG_CLIP_2) | {"fgseg": {"threshold": 0.7, "resolution": "squash"}}
    own = defaults_of(saved_model(tmp_path / "own", model_tensors(FG_CLIP_2), config))
    assert (own.threshold, own.resolution) == (0.7, "squash")
    assert model_defaults(golden_encoder(FG_CLIP_2)).resolution == "keep"
