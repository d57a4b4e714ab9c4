"""Published settings."""

import pytest

from fgseg.datasets.presets import PRESETS, preset
from fgseg.datasets.standard_sets import STANDARD_SETS
from fgseg.errors import OptionError

# The published table: (short side, crop, stride, scale, threshold, number of background words) per set, in its order.
TABLE = {
    "sclip": {
        "voc21": (336, 224, 112, 65, 0.1, 26),
        "voc20": (336, 224, 112, 40, 0, 0),
        "context60": (336, 224, 112, 50, 0.1, 1),
        "context59": (336, 224, 112, 40, 0, 0),
        "coco-object": (336, 224, 112, 50, 0.1, 26),
        "coco-stuff": (448, 224, 112, 40, 0, 0),
        "cityscapes": (560, 224, 112, 40, 0, 0),
        "ade20k": (336, 224, 112, 40, 0, 0),
    },
    "naclip": {
        "voc21": (336, None, None, 40, 0.1, 26),
        "voc20": (336, None, None, 40, 0, 0),
        "context60": (336, 224, 112, 40, 0.1, 1),
        "context59": (336, 224, 112, 40, 0, 0),
        "coco-object": (336, 224, 112, 40, 0.1, 26),
        "coco-stuff": (336, 224, 112, 40, 0, 0),
        "cityscapes": (560, 224, 112, 40, 0, 0),
        "ade20k": (336, 224, 112, 40, 0, 0),
    },
    "clearclip": {
        "voc21": (448, 448, 224, 50, 0.5, 1),
        "voc20": (448, 448, 224, 50, 0, 0),
        "context60": (448, 448, 224, 50, 0.15, 1),
        "context59": (448, 448, 224, 50, 0, 0),
        "coco-object": (448, 448, 224, 50, 0.4, 1),
        "coco-stuff": (448, 448, 224, 50, 0, 0),
        "cityscapes": (448, 224, 224, 50, 0, 0),
        "ade20k": (448, 448, 224, 50, 0, 0),
    },
    "proxyclip": {
        "voc21": (336, 336, 112, 40, 0.2, 26),
        "voc20": (336, 336, 112, 40, 0, 0),
        "context60": (336, 336, 112, 40, 0.15, 26),
        "context59": (336, 336, 112, 40, 0, 0),
        "coco-object": (336, 336, 112, 40, 0.25, 17),
        "coco-stuff": (336, 336, 112, 40, 0, 0),
        "cityscapes": (448, 224, 112, 40, 0, 0),
        "ade20k": (448, 336, 112, 40, 0, 0),
    },
    "lposs": {
        "voc21": (448, 224, 112, 40, 0, 26),
        "voc20": (448, 224, 112, 40, 0, 0),
        "context60": (448, 224, 112, 40, 0, 26),
        "context59": (448, 224, 112, 40, 0, 0),
        "coco-object": (448, 224, 112, 40, 0, 17),
        "coco-stuff": (448, 224, 112, 40, 0, 0),
        "cityscapes": (448, 224, 112, 40, 0, 0),
        "ade20k": (448, 224, 112, 40, 0, 0),
    },
}
TABLE["corrclip"] = TABLE["proxyclip"] | {"coco-object": (336, 336, 112, 40, 0.25, 16)}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_published_settings(name):
    for dataset in STANDARD_SETS:
        found = preset(name, dataset)
        assert (found.name, found.dataset, found.max_side) == (name, dataset, 2048)
        assert (
            found.short_side,
            found.crop,
            found.stride,
            found.logit_scale,
            found.prob_threshold,
            len(found.background),
        ) == TABLE[name][dataset], dataset


def test_only_sclip_on_voc21_drops_small_classes():
    dropping = [(n, d) for n in PRESETS for d in STANDARD_SETS if preset(n, d).min_foreground_share]
    assert dropping == [("sclip", "voc21")]


def test_presets_say_what_they_do_not_reproduce():
    assert "position table" in preset("sclip", "voc20").deviations[0]
    assert "not padded" in preset("proxyclip", "voc20").deviations[0]
    assert any("SAM 2" in line for line in preset("corrclip", "voc20").deviations)
    assert preset("lposs", "voc20").guide == "dino-b16"


def test_presets_name_their_recipe_and_their_guide():
    own = {name: (preset(name, "voc20").recipe, preset(name, "voc20").guide) for name in PRESETS}
    assert own["naclip"] == ("naclip", None)
    assert own["proxyclip"] == ("proxy", "dino-b8")
    assert own["corrclip"] == ("corr", "dino-b8")
    assert "bed" not in preset("corrclip", "coco-object").background


def test_only_lposs_propagates_and_over_patches_alone():
    assert {n: preset(n, "voc20").propagate for n in PRESETS if preset(n, "voc20").propagate != "none"} == {
        "lposs": "patches"
    }


def test_unknown_presets_and_sets_are_refused():
    with pytest.raises(OptionError, match=r"preset: expected one of sclip, naclip, .*, corrclip, lposs, got 'x'"):
        preset("x", "voc21")
    with pytest.raises(OptionError, match="dataset: expected one of voc21"):
        preset("sclip", "voc12")
