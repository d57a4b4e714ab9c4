"""Settings of a run: presets, defaults, refused values, and unknown words."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import color_folder, segmentation_task
from tiny_models import GOLDEN

import fgseg
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.opening import open_dataset
from fgseg.errors import OptionError, PromptError
from fgseg.evaluation.tasks.class_texts import known_classes
from fgseg.evaluation.tasks.settings import settings_for


def test_a_preset_gives_the_published_settings_and_their_deviations(seg):
    classes = (fgseg.PromptClass("background", ("background",)), fgseg.PromptClass("red", ("red",)))
    voc = Dataset("voc21", GOLDEN, classes, (), has_background=True)
    made = settings_for(seg, voc, preset_name="sclip")
    assert (made.resize, made.logit_scale, made.threshold, made.min_foreground_share) == ("published", 65, 0.1, 0.1)
    assert str(made.resolution) == "slide:336/224/112"
    assert len(made.background) == 26
    assert "recipe value in place of sclip" in made.deviations
    assert made.classes(voc)[0].synonyms == made.background
    with pytest.raises(OptionError, match="dataset: expected one of voc21"):
        settings_for(seg, replace(voc, name="mine"), preset_name="sclip")


def test_a_preset_with_a_guide_says_which_recipe_and_guide_took_their_place(seg, tiny_model):
    stuff = Dataset("coco-stuff", GOLDEN, (fgseg.PromptClass("red", ("red",)),), ())
    others = settings_for(seg, stuff, preset_name="proxyclip").deviations
    assert {"recipe value in place of proxy", "guide None in place of dino-b8"} < set(others)
    own = fgseg.load(tiny_model, device="cpu", recipe="proxy", guide="self")
    others = settings_for(own, stuff, preset_name="proxyclip").deviations
    assert "guide self in place of dino-b8" in others
    assert not any(line.startswith("recipe ") for line in others)


def test_presence_does_not_use_the_softmax_settings_of_a_preset(seg):
    classes = (fgseg.PromptClass("background", ("background",)), fgseg.PromptClass("red", ("red",)))
    voc = Dataset("voc21", GOLDEN, classes, (), has_background=True)
    made = settings_for(seg, voc, preset_name="sclip", decision="presence")
    assert (made.logit_scale, made.min_foreground_share) == (seg.encoder.logit_scale, 0)
    assert made.threshold == seg.defaults.threshold
    assert any("decided by presence" in line for line in made.deviations)
    assert settings_for(seg, voc, preset_name="sclip", decision="presence", threshold=0.7).threshold == 0.7


def test_a_threshold_needs_a_background_class(seg, colors):
    with pytest.raises(OptionError, match="threshold: colors has no background class that could take pixels"):
        settings_for(seg, colors, threshold=0.4)
    with pytest.raises(OptionError, match="background: colors has no background class"):
        settings_for(seg, colors, background=["grey"])
    with pytest.raises(OptionError, match="min_foreground_share: colors has no background class"):
        settings_for(seg, colors, min_foreground_share=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"decision": "best"}, "decision: expected one of protocol, presence"),
        ({"prompts": "some"}, "prompts: expected one of all, present"),
        ({"refine": "crf"}, "refine: expected one of none, guided, pamr, superpixel"),
        ({"logit_scale": -1.0}, "logit_scale"),
        ({"decision": "presence", "background": ()}, "background: expected words for presence"),
        ({"decision": "presence", "min_foreground_share": 0.1}, "min_foreground_share: expected 0 with decision"),
    ],
)
def test_settings_out_of_range_are_refused(seg, colors, given, message):
    with pytest.raises(OptionError, match=message):
        settings_for(seg, colors, **given)


def test_the_error_for_an_unknown_word_names_the_known_classes(seg, tmp_path):
    folder = color_folder(tmp_path / "pets", classes=("red", "zeppelin", "blue"))
    dataset = open_dataset(folder)
    task = segmentation_task(seg, dataset)
    with pytest.raises(
        PromptError, match=r"does not know the words of 1 of 3 classes; it has words for 2 \(red, blue\)"
    ):
        _ = task.texts
    known = known_classes(seg, dataset, ("{}",))
    assert [entry.name for entry in known.classes] == ["red", "blue"]
    truth, kept = dataset.items[0].read_labels(), known.items[0].read_labels()
    np.testing.assert_array_equal(
        kept, np.array([0, 255, 1])[np.minimum(truth, 2)] * (truth != 255) + 255 * (truth == 255)
    )
    with pytest.raises(PromptError, match="has words for none of its classes"):
        known_classes(seg, dataset.select_classes(["zeppelin"]), ("{}",))


def test_regions_of_a_benchmark_are_a_name_or_a_folder(seg, colors, tmp_path):
    assert settings_for(seg, colors, region_map="superpixels", vote=True).to_dict()["vote"] is True
    assert settings_for(seg, colors, region_map=str(tmp_path), vote=True).region_map == str(tmp_path)
    with pytest.raises(OptionError, match=r"region_map: expected none, superpixels, eomt or a folder.*got 'slic'"):
        settings_for(seg, colors, region_map="slic", vote=True)
    with pytest.raises(OptionError, match="vote: expected regions that vote"):
        settings_for(seg, colors, vote=True)
    with pytest.raises(OptionError, match="region_map: nothing uses the regions unless they vote"):
        settings_for(seg, colors, region_map="superpixels")
    with pytest.raises(OptionError, match="propagate: expected one of none, patches"):
        settings_for(seg, colors, propagate="lposs")
