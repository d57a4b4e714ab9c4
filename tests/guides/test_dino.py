"""Our DINO and DINOv2 against transformers' on random weights, through real checkpoints on disk.

transformers takes seconds to import, so the tests that need it are in this file.
"""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from fgseg.errors import ModelNotFoundError, OptionError, ShapeError, WeightsError
from fgseg.guides.dino import DinoConfig, dino_family
from fgseg.guides.loading import load_guide

CLOSE = {"atol": 1e-5, "rtol": 0}  # float32, 3 layers, features of about 3
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 40, "patch_size": 8}
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
NATIVE, WIDE, TALL, CUT = (40, 40), (32, 64), (72, 24), (45, 50)


def vit():
    return ViTModel(ViTConfig(**SIZES, intermediate_size=48), add_pooling_layer=False)


def dinov2():
    return Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2))


def registers():
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=3))


FAMILIES = {"DINO": vit, "DINOv2": dinov2, "DINOv2 with registers": registers}


@pytest.fixture(scope="module", params=FAMILIES)
def models(request, tmp_path_factory):
    """(family, transformers' model, ours) on the same weights, saved by transformers' own save_pretrained."""
    theirs = FAMILIES[request.param]()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in theirs.parameters():  # also where the initial 0 or 1 would hide a mistake
            weight.normal_(0, 0.25, generator=generator)
    folder = tmp_path_factory.mktemp("guide")
    theirs.eval().save_pretrained(folder)
    return request.param, theirs, load_guide(folder, **CPU)


def pixels(hw, count=2):
    return torch.from_numpy(np.random.RandomState(3).normal(size=(count, 3, *hw)).astype(np.float32))


@torch.inference_mode()
def theirs_of(theirs, values, family, kind):
    """The features of transformers' model, (B, Gh*Gw, C); queries, keys and values are caught on the way."""
    layers = theirs.layers if hasattr(theirs, "layers") else theirs.encoder.layer
    caught, handles = {}, []

    def catch(letter):
        return lambda _module, _given, found: caught.update({letter: found})

    for name, module in layers[-1].named_modules():
        if re.search("[qkv]_proj|query|key|value", name):
            handles.append(module.register_forward_hook(catch(name.split(".")[-1][0])))
    options = {"interpolate_pos_encoding": True} if family == "DINO" else {}
    hidden = theirs(values, **options).last_hidden_state
    for handle in handles:
        handle.remove()
    found = {"hidden": hidden, "query_key": caught["q"] + caught["k"], "value": caught["v"]}[kind]
    return found[:, 4 if "registers" in family else 1 :]


@pytest.mark.parametrize("kind", ["hidden", "query_key", "value"])
@pytest.mark.parametrize("hw", [NATIVE, WIDE, TALL, CUT])
def test_features_of_each_kind_are_those_of_transformers_at_every_size(models, hw, kind):
    family, theirs, guide = models
    values = pixels(hw)
    with torch.inference_mode():
        ours = guide.model.patch_features(values, kind=kind)
    assert ours.shape == (2, hw[0] // 8, hw[1] // 8, 32)
    np.testing.assert_allclose(ours.flatten(1, 2), theirs_of(theirs, values, family, kind), **CLOSE)


def test_the_family_is_told_by_the_tensors(models):
    family, _, guide = models
    assert guide.model.config.family == family
    assert guide.patch == 8
    assert guide.revision is None


def test_images_are_resized_to_the_grid_and_normalised_as_imagenet(models):
    family, theirs, guide = models
    image = np.random.RandomState(8).randint(0, 256, (32, 48, 3), dtype=np.uint8)
    (found,) = guide.features([image], [(4, 6)], kind="hidden")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32))
    expected = theirs_of(theirs, values, family, "hidden")[0]
    expected = expected / expected.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(found.flatten(0, 1), expected, atol=1e-5)
    (larger,) = guide.features([image], [(5, 9)], kind="hidden")
    assert larger.shape == (5, 9, 32)
    np.testing.assert_allclose(larger.norm(dim=-1), 1, atol=1e-5)


def test_the_batch_changes_nothing(models):
    _, _, guide = models
    images = [
        np.random.RandomState(seed).randint(0, 256, hw, dtype=np.uint8)
        for seed, hw in enumerate([(40, 40, 3), (24, 56, 3), (40, 40, 3)])
    ]
    grids = [(5, 5), (3, 7), (5, 5)]
    together = guide.features(images, grids, kind="value")
    for image, grid, found in zip(images, grids, together, strict=True):
        (alone,) = guide.features([image], [grid], kind="value")
        np.testing.assert_allclose(found, alone, atol=1e-6)  # larger products round differently


def saved(tmp_path, model, change):
    """A folder with a model whose tensors and config were changed."""
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    change(tensors, config)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.pop("layernorm.bias"), r"tensor 'layernorm.bias' is missing \(1 in all\)"),
        (lambda t, _: t.update({"pooler.dense.bias": torch.zeros(32)}), "which has no tensor 'pooler.dense.bias'"),
        (lambda _, c: c.update(intermediate_size=40), "expected shape"),
        (lambda _, c: c.update(hidden_size="wide"), "config.json: hidden_size: expected a number, got 'wide'"),
        (lambda _, c: c.update(patch_size=41), "expected a patch_size from 1 to image_size, 40, got 41"),
        (lambda t, _: t.pop("embeddings.cls_token"), "guide: expected the tensors of DINO or DINOv2"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        load_guide(saved(tmp_path, vit(), change), **CPU)


def test_pixels_and_kinds_that_a_guide_cannot_take_are_refused(models):
    model = models[2].model
    with pytest.raises(ShapeError, match=r"pixel_values: expected sides of at least 8, got \(40, 7\)"):
        model.patch_features(torch.zeros(1, 3, 40, 7), kind="hidden")
    with pytest.raises(ShapeError, match="pixel_values: expected an array of shape"):
        model.patch_features(torch.zeros(3, 40, 40), kind="hidden")
    with pytest.raises(OptionError, match="kind: expected one of hidden, query_key, value, got 'key'"):
        model.patch_features(torch.zeros(1, 3, 40, 40), kind="key")


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=r"pytorch_model\.bin is a pickle, which can run code: convert it to"):
        load_guide(tmp_path, **CPU)


def test_config_defaults_are_those_of_transformers():
    for family, config in (("DINO", ViTConfig()), ("DINOv2", Dinov2Config())):
        ours, given = DinoConfig.from_dict({}, family), config.to_dict()
        given |= {"intermediate_size": given.get("intermediate_size", 3072)}
        assert ours == DinoConfig.from_dict(given, family)


def test_tensors_of_another_model_are_told_apart():
    with pytest.raises(WeightsError, match=r"got 1: text_projection\.weight"):
        dino_family({"text_projection.weight": (2, 2)})
