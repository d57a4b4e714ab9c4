"""Finding a model's files and reading them strictly. Fetching them is tested in test_hub.py."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from tiny_models import (
    CLIP,
    FG_CLIP,
    FG_CLIP_2,
    FG_CLIP_14,
    GOLDEN,
    IMAGE,
    assert_loads_as_the_golden,
    golden_encoder,
    loaded,
    model_config,
    model_tensors,
    saved_model,
)

from fgseg.encoders.checkpoint import MODELS, find_checkpoint, tensor_shapes
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.hub import is_commit
from fgseg.encoders.loading import family_of, load_encoder
from fgseg.errors import ModelNotFoundError, OptionError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def assert_refused(tmp_path, match, *, tensors=None, config=None, error=WeightsError):
    """Loading plain CLIP with these changes raises an error with a message that matches."""
    folder = saved_model(tmp_path / "model", tensors or model_tensors(CLIP), config or model_config(CLIP))
    with pytest.raises(error, match=match):
        loaded(folder)


# the family


@pytest.mark.parametrize(
    ("name", "family", "kind"),
    [
        (CLIP, "CLIP", ClipEncoder),
        (FG_CLIP, "FG-CLIP 1", ClipEncoder),
        (FG_CLIP_14, "FG-CLIP 1", ClipEncoder),
        (FG_CLIP_2, "FG-CLIP 2", FgClip2Encoder),
        ("mini", "FG-CLIP 1", ClipEncoder),
    ],
)
def test_the_tensors_decide_the_family_of_a_model(name, family, kind):
    source = name if name == "mini" else str(GOLDEN / name)
    assert family_of(tensor_shapes(find_checkpoint(source))) == family
    assert type(loaded(source)) is kind


def test_the_family_does_not_come_from_the_configs_model_type(tmp_path):
    config = model_config(CLIP) | {"model_type": "fgclip2", "architectures": ["Fgclip2Model"]}
    assert_loads_as_the_golden(saved_model(tmp_path / "model", model_tensors(CLIP), config))


def test_tensors_of_an_unknown_family_are_refused_with_their_names(tmp_path):
    with pytest.raises(
        WeightsError, match=r"expected the tensors of CLIP or FG-CLIP .* got 2: conv1\.weight, fc\.bias"
    ):
        family_of({"fc.bias": (3,), "conv1.weight": (3, 3)})
    assert_refused(tmp_path, "got 1: fc.bias", tensors={"fc.bias": torch.zeros(3)})


# strict loading


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
@pytest.mark.parametrize("lost", ["text_model.final_layer_norm.bias", "logit_scale"])
def test_the_error_about_a_missing_tensor_names_the_family(tmp_path, name, lost):
    tensors = model_tensors(name)
    del tensors[lost]
    family = {CLIP: "Clip", FG_CLIP: "FgClip", FG_CLIP_2: "FgClip2"}[name]
    with pytest.raises(WeightsError, match=f"read as {family}, but tensor '{lost}' is missing"):
        loaded(saved_model(tmp_path / "model", tensors, model_config(name)))


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_the_error_about_an_extra_tensor_names_it(tmp_path, name):
    tensors = model_tensors(name) | {"text_model.adapter.weight": torch.zeros(2, 2)}
    with pytest.raises(WeightsError, match=r"which has no tensor 'text_model\.adapter\.weight' \(1 such in all\)"):
        loaded(saved_model(tmp_path / "model", tensors, model_config(name)))


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_the_error_about_a_misshaped_tensor_names_both_shapes(tmp_path, name):
    tensors = model_tensors(name)
    bias = "vision_model.post_layernorm.bias"
    width = len(tensors[bias])
    tensors[bias] = torch.zeros(width + 1)
    match = rf"'vision_model\.post_layernorm\.bias': expected shape \({width},\) from config.json, got \({width + 1},\)"
    with pytest.raises(WeightsError, match=match):
        loaded(saved_model(tmp_path / "model", tensors, model_config(name)))


def test_a_tensor_with_the_right_number_of_elements_and_another_shape_is_refused(tmp_path):
    tensors = model_tensors(CLIP)
    tensors["text_projection.weight"] = tensors["text_projection.weight"].T.contiguous()
    assert_refused(tmp_path, r"'text_projection\.weight': expected shape \(24, 32\).*got \(32, 24\)", tensors=tensors)


def test_a_config_of_another_size_is_refused_and_the_first_tensor_that_does_not_fit_is_named(tmp_path):
    config = model_config(CLIP)
    config["vision_config"]["image_size"] = 112
    assert_refused(tmp_path, r"position_embedding\.weight': expected shape \(50, 64\).*got \(37, 64\)", config=config)


# old checkpoints and checkpoints of the hub


def test_position_ids_that_old_versions_saved_are_ignored(tmp_path):
    tensors = model_tensors(CLIP)
    for tower, count in (("text", 77), ("vision", 37)):
        tensors[f"{tower}_model.embeddings.position_ids"] = torch.arange(count)[None]
    assert_loads_as_the_golden(saved_model(tmp_path / "model", tensors, model_config(CLIP)))


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_temperature_may_be_stored_with_or_without_an_axis(tmp_path, name, shape):
    tensors = {key: value.reshape(shape) if value.numel() == 1 else value for key, value in model_tensors(name).items()}
    encoder = assert_loads_as_the_golden(saved_model(tmp_path / "model", tensors, model_config(name)), name)
    assert encoder.global_logit_scale == golden_encoder(name).global_logit_scale


def test_regions_take_their_own_temperature_if_the_model_has_one(tmp_path):
    values = {"logit_scale": 1.0, "logit_scale_finegraind": 2.0, "logit_scale_hardneg": 3.0, "logit_bias": -4.0}
    for name, region, bias in ((CLIP, 1.0, None), (FG_CLIP, 2.0, None), (FG_CLIP_2, 1.0, -4.0)):
        tensors = model_tensors(name)
        tensors |= {key: torch.full_like(tensors[key], value) for key, value in values.items() if key in tensors}
        encoder = loaded(saved_model(tmp_path / name, tensors, model_config(name)))
        assert encoder.logit_scale == pytest.approx(np.exp(region), abs=1e-5)
        assert encoder.global_logit_scale == pytest.approx(np.exp(1), abs=1e-5)
        assert encoder.global_logit_bias == bias


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_temperature_stays_float32_with_weights_of_any_dtype(dtype):
    encoder = load_encoder(str(GOLDEN / FG_CLIP), device="cpu", dtype=dtype)
    assert encoder.model.logit_scale.dtype == torch.float32
    assert encoder.model.visual_projection.weight.dtype == encoder.dtype == getattr(torch, dtype)
    assert encoder.logit_scale == golden_encoder(FG_CLIP).logit_scale


def test_weights_stored_in_half_precision_compute_in_the_requested_dtype(tmp_path):
    tensors = {key: value.bfloat16() for key, value in model_tensors(CLIP).items()}
    encoder = loaded(saved_model(tmp_path / "model", tensors, model_config(CLIP)))
    assert {weight.dtype for weight in encoder.model.parameters()} == {torch.float32}
    close = torch.cosine_similarity(
        encoder.encode_images([IMAGE])[0].grid, golden_encoder(CLIP).encode_images([IMAGE])[0].grid, dim=-1
    )
    assert close.min() > 0.999


def test_the_loaded_model_is_frozen_and_in_eval_mode():
    model = golden_encoder(FG_CLIP).model
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_code_beside_the_weights_is_never_run(tmp_path):
    ran = tmp_path / "ran"
    config = model_config(CLIP) | {
        "auto_map": {"AutoConfig": "modeling_x.X", "AutoModel": "modeling_x.X"},
        "trust_remote_code": True,
        "architectures": ["X"],
    }
    folder = saved_model(tmp_path / "model", model_tensors(CLIP), config)
    for name in ("modeling_x.py", "configuration_x.py", "__init__.py"):
        code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass X: pass\n"
        (tmp_path / "model" / name).write_text(code)
    assert_loads_as_the_golden(folder)
    assert not ran.exists()
    assert "modeling_x" not in sys.modules
    subprocess.run([sys.executable, tmp_path / "model" / "modeling_x.py"], check=True)
    assert ran.exists()  # the trap works


def test_encoders_import_neither_transformers_nor_torchvision():
    code = (
        "import sys; from fgseg.encoders import load_encoder; "
        "load_encoder('mini', device='cpu', dtype='float32').encode_texts(['red']); "
        "heavy = {'transformers', 'torchvision', 'einops', 'huggingface_hub'}; "
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# files


@pytest.fixture
def sharded(tmp_path):
    """Plain CLIP in two files with an index: (folder, path of the index)."""
    folder = tmp_path / "sharded"
    saved_model(folder, model_tensors(CLIP), model_config(CLIP))
    (folder / "model.safetensors").unlink()
    names = sorted(model_tensors(CLIP))
    index = {"metadata": {}, "weight_map": {}}
    for number, part in ((1, names[::2]), (2, names[1::2])):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: model_tensors(CLIP)[name] for name in part}, folder / file)
        index["weight_map"] |= dict.fromkeys(part, file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return folder, path


def test_a_sharded_model_equals_the_single_file(sharded):
    encoder = assert_loads_as_the_golden(sharded[0])
    assert len(encoder.checkpoint.tensor_files) == 2
    for name, weight in golden_encoder(CLIP).model.state_dict().items():
        assert torch.equal(encoder.model.state_dict()[name], weight)


def test_a_single_file_takes_precedence_over_an_index(tmp_path):
    folder = tmp_path / "model"
    saved_model(folder, model_tensors(CLIP), model_config(CLIP))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    assert_loads_as_the_golden(folder)


def test_an_index_that_names_a_missing_file_is_refused_with_its_name(sharded):
    folder, _ = sharded
    (folder / "model-00002-of-00002.safetensors").unlink()
    match = r"index\.json names model-00002-of-00002\.safetensors, which is missing"
    with pytest.raises(ModelNotFoundError, match=match):
        loaded(folder)


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/etc/secret.safetensors", "sub/x.safetensors"])
def test_an_index_that_points_out_of_its_folder_is_refused(sharded, outside):
    folder, index = sharded
    save_file(model_tensors(CLIP), folder.parent / "secret.safetensors")
    index.write_text(json.dumps({"weight_map": {"logit_scale": outside}}))
    with pytest.raises(WeightsError, match=f"weight_map names '{outside}', which is not a file of this folder"):
        loaded(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": ["a"]}'])
def test_a_broken_index_is_refused(sharded, text):
    folder, index = sharded
    index.write_text(text)
    with pytest.raises(WeightsError, match=r"index\.json: expected a JSON object with a weight_map"):
        loaded(folder)


def test_a_tensor_that_its_shard_lacks_is_reported_as_missing(sharded):
    folder, index = sharded
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], "model-00001-of-00002.safetensors")
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"tensor '.*' is missing|expected the tensors of CLIP"):
        loaded(folder)


@pytest.mark.parametrize("kept", [0, 5, 300, -40])
def test_the_error_about_a_truncated_tensor_file_names_it(tmp_path, kept):
    folder = tmp_path / "model"
    saved_model(folder, model_tensors(CLIP), model_config(CLIP))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:kept])
    with pytest.raises(WeightsError, match=r"model\.safetensors: expected a safetensors file, got .*download it again"):
        loaded(folder)


def test_a_folder_without_config_or_weights_says_which_file_it_lacks(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"expected a model folder .* found no config\.json"):
        loaded(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=r"expected weights in model\.safetensors or .* found neither$"):
        loaded(tmp_path)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "open_clip.pt", "last.pth"])
def test_pickled_weights_are_not_opened_and_the_error_says_to_convert_them(tmp_path, pickle):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / pickle).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(
        ModelNotFoundError, match=f"{pickle} is a pickle, which can run code: convert it to safetensors"
    ):
        loaded(tmp_path)


def test_the_digest_changes_with_the_weights_and_not_with_the_folder(tmp_path, sharded):
    golden = golden_encoder(CLIP).digest()
    assert len(golden) == 64
    tensors = model_tensors(CLIP)
    shutil.copytree(GOLDEN / CLIP, tmp_path / "copy")
    assert loaded(tmp_path / "copy").digest() == golden
    tensors["logit_scale"] = tensors["logit_scale"] + 1e-3
    assert loaded(saved_model(tmp_path / "changed", tensors, model_config(CLIP))).digest() != golden
    assert loaded(sharded[0]).digest() != golden


# names and the hub


@pytest.mark.parametrize("name", ["fg-clip-huge", "a/b/c", "./nowhere", "/nowhere/model", "~nobody-of-this-name/model"])
def test_a_name_that_is_not_a_model_folder_or_hub_id_is_refused_with_the_known_names(name):
    with pytest.raises(
        ModelNotFoundError, match=r"expected one of mini, fg-clip-base, .* a folder that exists, or a hub"
    ):
        load_encoder(name)


def test_the_embedded_model_and_folders_have_no_revision():
    assert load_encoder("mini", device="cpu").revision is None
    assert golden_encoder(CLIP).revision is None
    assert golden_encoder(CLIP).name == str(GOLDEN / CLIP)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local hub cache that holds fg-clip-base at its pinned commit and me/clip at a branch; no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    pinned = MODELS["fg-clip-base"].revision
    for owner, repository, commit, name in (
        ("qihoo360", "fg-clip-base", pinned, FG_CLIP),
        ("me", "clip", COMMIT, CLIP),
    ):
        root = cache / f"models--{owner}--{repository}"
        shutil.copytree(GOLDEN / name, root / "snapshots" / commit)
        (root / "refs").mkdir()
    (cache / "models--me--clip" / "refs" / "main").write_text(COMMIT)
    return cache


def test_a_cached_hub_model_loads_offline_and_has_its_commit_as_revision(hub):
    encoder = assert_loads_as_the_golden("me/clip", offline=True)
    assert (encoder.name, encoder.revision) == ("me/clip", COMMIT)
    assert_loads_as_the_golden("me/clip", offline=True, revision=COMMIT)


def test_a_short_name_loads_its_pinned_commit_from_the_cache(hub):
    encoder = assert_loads_as_the_golden("fg-clip-base", FG_CLIP, offline=True)
    assert (encoder.name, encoder.revision) == ("fg-clip-base", MODELS["fg-clip-base"].revision)


def test_a_model_that_is_not_in_the_cache_is_refused_in_offline_mode(hub, monkeypatch):
    offline = "not in the cache, and offline mode is on; download it once"
    with pytest.raises(ModelNotFoundError, match=f"model qihoo360/fg-clip2-base at 430f[0-9a-f]*: it is {offline}"):
        load_encoder("fg-clip2-base", offline=True)
    with pytest.raises(ModelNotFoundError, match=f"model me/clip at v2: it is {offline}"):
        load_encoder("me/clip", offline=True, revision="v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match=offline):
        load_encoder("fg-clip2-base")
    assert_loads_as_the_golden("me/clip")


def test_a_cached_folder_without_weights_is_refused(hub):
    (hub / "models--me--clip" / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="only a part of it is in the cache, and offline mode is on"):
        load_encoder("me/clip", offline=True)


def test_the_pinned_commits_are_complete():
    for model in MODELS.values():
        assert model is None or is_commit(model.revision)
    assert next(iter(MODELS)) == "mini"


# options of load_encoder


def test_an_unknown_recipe_is_refused_and_fgclip_2_accepts_only_the_default():
    with pytest.raises(
        OptionError, match="recipe: expected one of value, vanilla, sclip, naclip, kk, clearclip, got 'x'"
    ):
        load_encoder(str(GOLDEN / CLIP), recipe="x")
    with pytest.raises(OptionError, match="FG-CLIP 2 has a trained dense head and takes no recipe, got 'sclip'"):
        loaded(GOLDEN / FG_CLIP_2, recipe="sclip")


@pytest.mark.parametrize("name", ["mini", "folder"])
def test_a_revision_of_a_model_that_is_not_from_the_hub_is_refused(name, tmp_path):
    where = str(tmp_path) if name == "folder" else name
    with pytest.raises(OptionError, match=r"revision: .* is not from the hub and has no revision 'v2'"):
        find_checkpoint(where, revision="v2")


def test_the_error_about_a_file_in_place_of_a_model_folder_says_so(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(
        ModelNotFoundError, match=r"photo\.png': expected a folder with config\.json and weights, got a file"
    ):
        find_checkpoint(str(tmp_path / "photo.png"), offline=True)
