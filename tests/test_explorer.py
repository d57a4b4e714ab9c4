import sys
from base64 import b64decode

import numpy as np
import pytest

import fgseg
from fgseg.drawing.figures import NotebookFigure
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.encoders.base import Encoder
from fgseg.errors import ImageError, OptionError, PromptError
from fgseg.explorer import WITHOUT_WIDGETS, Explorer, explore
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.scenes.composition import scene
from fgseg.segmentation.heatmaps import NOTEBOOK_SIDE
from fgseg.segmenter import Segmenter

IMAGE = scene(12_345, (96, 128)).image


class Counting:
    """An encoder that counts what it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.images, self.texts = encoder, 0, 0

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode_images(self, images, **options):
        self.images += 1
        return self.encoder.encode_images(images, **options)

    def encode_texts(self, texts, **options):
        self.texts += len(texts)
        return self.encoder.encode_texts(texts, **options)


@pytest.fixture
def seg(tiny_model):
    return Segmenter(Counting(fgseg.load(tiny_model, dtype="float32", device="cpu").encoder))


@pytest.fixture
def explorer(seg):
    return explore(IMAGE, ["red", "blue"], segmenter=seg, threshold=0.5)


@pytest.fixture
def without_widgets(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # importing it now raises ImportError


def png(picture):
    return encode_png(picture)


def test_every_widget_redraws_and_the_image_is_encoded_once(explorer, seg):
    assert seg.encoder.images == 1
    view = seg.encode(IMAGE)
    seg.encoder.images = seg.encoder.texts = 0
    assert explorer.picture.value == png(seg.segment(view, ["red", "blue"], threshold=0.5).overlay())
    explorer.threshold.value = 0.52
    assert explorer.picture.value == png(seg.segment(view, ["red", "blue"], threshold=0.52).overlay())
    explorer.opacity.value = 0.9
    drawn = seg.segment(view, ["red", "blue"], threshold=0.52)
    assert explorer.picture.value == png(drawn.overlay(opacity=0.9))
    explorer.mode.value = "independent"
    drawn = seg.segment(view, ["red", "blue"], threshold=0.52, mode="independent")
    assert explorer.picture.value == png(drawn.overlay(opacity=0.9))
    explorer.mode.value = "heatmaps"
    maps = seg.heatmaps(view, ["red", "blue"])
    assert explorer.picture.value == png(heatmap_sheet(IMAGE, maps, opacity=0.9, max_side=NOTEBOOK_SIDE))
    assert (seg.encoder.images, seg.encoder.texts) == (0, 0)


def test_only_new_prompts_are_encoded(explorer, seg):
    seg.encoder.images = seg.encoder.texts = 0
    explorer.prompts.value = "  red\n\ngreen, lime\n"
    assert (seg.encoder.images, seg.encoder.texts) == (0, 2)
    assert explorer.picture.value == png(seg.segment(IMAGE, ["red", "green, lime"], threshold=0.5).overlay())


def test_the_message_says_when_the_image_was_encoded(explorer, seg):
    assert "the image was encoded once, in" in explorer.message.value
    again = explore(seg.encode(IMAGE), ["red"], segmenter=seg)
    assert again.message.value.endswith("the image was encoded before")


def test_wrong_prompts_keep_the_picture_and_show_the_error(explorer):
    before = explorer.picture.value
    explorer.prompts.value = "red\ngiraffe"
    assert "never seen the word 'giraffe'" in explorer.message.value
    explorer.prompts.value = " \n"
    assert explorer.message.value.startswith("prompts: expected at least one")
    assert explorer.picture.value == before
    explorer.prompts.value = "red\nblue"
    assert explorer.message.value.startswith("drawn in")
    assert explorer.picture.value == before


def test_prompts_are_escaped_in_the_message(explorer):
    explorer.prompts.value = "<b>giraffe</b> & red"
    assert "&lt;" in explorer.message.value
    assert "<b>" not in explorer.message.value


def test_the_threshold_is_disabled_while_heatmaps_are_shown(explorer):
    assert not explorer.threshold.disabled
    explorer.mode.value = "heatmaps"
    assert explorer.threshold.disabled
    explorer.mode.value = "exclusive"
    assert not explorer.threshold.disabled


def test_the_widgets_start_with_the_arguments_and_the_default_threshold_of_the_model(seg):
    started = explore(IMAGE, "red", segmenter=seg, mode="independent", opacity=0.25)
    assert (started.prompts.value, started.mode.value, started.opacity.value) == ("red", "independent", 0.25)
    assert started.threshold.value == seg.defaults.threshold


def test_a_notebook_shows_the_widgets(explorer):
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_large_pictures_are_reduced(seg, tmp_path):
    wide = np.zeros((8, 3000, 3), np.uint8)
    explorer = explore(wide, ["red", "blue"], segmenter=seg, resolution="squash")
    (tmp_path / "cell.png").write_bytes(explorer.picture.value)
    assert max(read_image(tmp_path / "cell.png").shape) == NOTEBOOK_SIDE


def test_explore_loads_the_default_model_and_is_a_name_of_the_package(tiny_model, monkeypatch):
    monkeypatch.setenv("FGSEG_MODEL", tiny_model)
    assert fgseg.explore is explore
    assert isinstance(fgseg.explore(IMAGE), Explorer)


@pytest.mark.parametrize("mode", ["exclusive", "independent", "heatmaps"])
def test_without_ipywidgets_explore_returns_a_figure_and_prints_what_to_install(mode, seg, capsys, without_widgets):
    figure = explore(IMAGE, ["red", "blue"], segmenter=seg, mode=mode)
    assert capsys.readouterr().out == WITHOUT_WIDGETS + "\n"
    assert "pip install ipywidgets" in WITHOUT_WIDGETS
    assert isinstance(figure, NotebookFigure)
    (axes,) = figure.axes
    if mode == "heatmaps":
        expected = heatmap_sheet(IMAGE, seg.heatmaps(IMAGE, ["red", "blue"]), opacity=0.5, max_side=NOTEBOOK_SIDE)
    else:
        expected = seg.segment(IMAGE, ["red", "blue"], mode=mode).overlay(opacity=0.5)
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), expected)


def test_the_result_is_what_the_picture_shows_and_follows_every_widget(explorer, seg):
    view = seg.encode(IMAGE)
    assert (explorer.result.labels == seg.segment(view, ["red", "blue"], threshold=0.5).labels).all()
    explorer.negatives.value = "green\n yellow "
    explorer.min_area.value = 300
    expected = seg.segment(view, ["red", "blue"], negatives=["green", "yellow"], threshold=0.5, min_area=300)
    assert (explorer.result.labels == expected.labels).all()
    explorer.base.value = "photo"
    assert explorer.picture.value == png(expected.overlay(base="photo"))
    explorer.mode.value = "heatmaps"
    assert explorer.min_area.disabled
    maps = seg.heatmaps(view, ["red", "blue"], negatives=["green", "yellow"])
    assert (explorer.result["red"] == maps["red"]).all()
    assert explorer.picture.value == png(heatmap_sheet(IMAGE, maps, opacity=0.5, max_side=NOTEBOOK_SIDE, base="photo"))


def test_any_smallest_region_and_negatives_can_be_the_first(seg):
    started = explore(IMAGE, ["red"], segmenter=seg, negatives="blue", min_area=77, base="photo")
    assert (started.negatives.value, started.min_area.value, started.base.value) == ("blue", 77, "photo")
    assert 77 in started.min_area.options


def test_scores_flow_and_regions_vote_as_the_widgets_say(seg):
    view = seg.encode(IMAGE)
    regions = np.arange(96 * 128).reshape(96, 128) // (96 * 32)  # four bands of rows
    started = explore(view, ["red", "blue"], segmenter=seg, propagate="pixels", region_map=regions)
    expected = seg.segment(view, ["red", "blue"], propagate="pixels")
    assert (started.result.labels == expected.labels).all()
    assert (started.propagate.value, started.vote.value, started.vote.disabled) == ("pixels", False, False)
    started.vote.value = True
    voted = seg.segment(view, ["red", "blue"], propagate="pixels", region_map=regions, vote=True)
    assert (started.result.labels == voted.labels).all()
    assert (voted.labels != expected.labels).any()
    started.propagate.value = "none"
    started.mode.value = "heatmaps"
    maps = seg.heatmaps(view, ["red", "blue"], region_map=regions, vote=True)
    assert (started.result["red"] == maps["red"]).all()
    assert explore(view, ["red"], segmenter=seg).vote.disabled


def test_a_guide_is_that_of_the_segmenter_and_corr_mixes_within_the_regions(tiny_model):
    guided = fgseg.load(tiny_model, dtype="float32", device="cpu", recipe="corr", guide="self")
    regions = (np.arange(128) // 64)[None].repeat(96, 0)
    started = explore(IMAGE, ["red", "blue"], segmenter=guided, region_map=regions)
    expected = guided.segment(IMAGE, ["red", "blue"], region_map=regions)
    assert (started.result.labels == expected.labels).all()
    assert started.result.settings["guide"]["name"] == "self"
    assert started.result.settings["region_map"] == "array"


def test_where_widgets_cannot_run_the_picture_is_shown(explorer):
    bundle = explorer._repr_mimebundle_()
    assert b64decode(bundle["image/png"]) == explorer.picture.value


@pytest.mark.parametrize(
    ("image", "prompts", "options", "error", "message"),
    [
        (IMAGE, ["red"], {"mode": "masks"}, OptionError, "mode: expected one of exclusive, independent, heatmaps"),
        (IMAGE, ["red"], {"threshold": 2}, OptionError, "threshold: expected a number from 0 to 1, got 2; a presence"),
        (IMAGE, ["red"], {"base": "blue"}, OptionError, "base: expected one of grey, photo, got 'blue'"),
        (IMAGE, ["red"], {"min_area": -1}, OptionError, "min_area: expected a whole number from 0 to"),
        (IMAGE, ["red"], {"negatives": ["giraffe"]}, PromptError, "never seen the word 'giraffe'"),
        (IMAGE, ["red"], {"propagate": "all"}, OptionError, "propagate: expected one of none, patches, pixels, both"),
        (IMAGE, ["red"], {"vote": True}, OptionError, "vote: expected regions that vote, got none"),
        (IMAGE, ["red"], {"region_map": 3}, OptionError, "region_map: expected an integer array"),
        (IMAGE, ["red"], {"opacity": -1}, OptionError, "opacity: expected a number from 0 to 1, got -1"),
        (IMAGE, [], {}, PromptError, "prompts: expected at least one"),
        (IMAGE, ["giraffe"], {}, PromptError, "never seen the word 'giraffe'"),
        ("nowhere.png", ["red"], {}, ImageError, "nowhere.png"),
    ],
)
def test_wrong_arguments_are_refused_before_a_widget_is_made(seg, image, prompts, options, error, message):
    with pytest.raises(error, match=message):
        explore(image, prompts, segmenter=seg, **options)
