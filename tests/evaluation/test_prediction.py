"""Predictions: the protocol and presence decisions, resizing, and the classes that compete."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import color_folder, segmentation_task
from PIL import Image
from tiny_models import CLIP, GOLDEN, golden_encoder, golden_tensors

import fgseg
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.scenes import open_scenes
from fgseg.encoders.loading import load_encoder
from fgseg.errors import OptionError
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.tasks import segmentation as segmentation_module
from fgseg.evaluation.tasks.prediction import encode, predict
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.evaluation.tasks.sweep import Grid, SweepTask
from fgseg.regions.specks import join_gaps, join_parts, quarter_patch
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.similarity import unit
from fgseg.types import UNLABELLED


def test_the_golden_protocol_holds_end_to_end(tmp_path, monkeypatch):
    golden = golden_tensors(CLIP, "protocol")
    encoder = load_encoder(str(GOLDEN / CLIP), device="cpu", dtype="float32", recipe="naclip")
    pixels, canvas_hw = golden["pixel_values"], tuple(golden["pixel_values"].shape[2:])
    query_to_class = golden["query_to_class"].tolist()
    folder = tmp_path / "golden"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((200, 280, 3), np.uint8)).save(folder / "images" / "a.png")
    Image.fromarray(golden["labels"].numpy().astype(np.uint8)).save(folder / "labels" / "a.png")
    words = [
        [f"word {query}" for query, class_index in enumerate(query_to_class) if class_index == index]
        for index in range(5)
    ]
    lines = [", ".join(["background", *words[0]]), *(", ".join(names) for names in words[1:])]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(folder)

    def encoded(seg, image, chosen, source):
        boxes = window_boxes(canvas_hw, crop=96, stride=48)
        with torch.inference_mode():
            grids = [encoder.model.dense_features(pixels[..., t:b, le:r], recipe="naclip")[0] for le, t, r, b in boxes]
        windows = tuple(fgseg.DenseFeatures(unit(grid), (96, 96)) for grid in grids)
        return EncodedImage(image, windows, boxes, canvas_hw, chosen.resolution, "golden")

    monkeypatch.setattr(segmentation_module, "encode", encoded)
    texts = PromptTexts(unit(golden["text"]), tuple(query_to_class), ("{}",))
    monkeypatch.setattr(segmentation_module, "class_texts", lambda seg, classes, templates: texts)
    monkeypatch.setattr("fgseg.encoders.encoder._ImageTextEncoder.digest", lambda self: "0" * 64)
    task = SegmentationTask(
        fgseg.Segmenter(encoder),
        dataset,
        replace(
            settings_for(fgseg.Segmenter(encoder), dataset, logit_scale=40.0, threshold=0.5, templates="none"),
            resolution=Resolution("slide", 160, 96, 48),
            resize="published",
        ),
    )
    outcome = run_task(task, tmp_path / "out")
    right = outcome.summary["table"]["model"]
    assert right["aacc"]["value"] >= 0.9999
    assert right["miou"]["value"] >= 0.999


def test_published_resizing_gives_the_canvas_and_the_windows_of_the_protocol(seg, colors):
    chosen = replace(settings_for(seg, colors), resolution=Resolution("slide", 48, 32, 16), resize="published")
    view = encode(seg, colors.items[0].read_image(), chosen)
    assert view.canvas_hw == (48, 64)
    assert view.boxes_xyxy == window_boxes((48, 64), crop=32, stride=16)
    whole = encode(seg, colors.items[0].read_image(), replace(chosen, resolution=Resolution("keep", 48)))
    assert whole.boxes_xyxy == ((0, 0, 64, 48),)


def test_the_presence_decision_gives_the_labels_of_segment(seg):
    dataset = open_scenes("scenes-shapes", count=3, side=48)
    task = segmentation_task(seg, dataset, decision="presence", threshold=0.52)
    for name, item in zip(task.items, dataset.items, strict=True):
        result = seg.segment(
            item.read_image(), [entry.name for entry in dataset.classes[1:]], threshold=0.52, resolution="squash:32",
            background=task.settings.background, min_area=0, max_hole=0,
        )  # fmt: skip
        expected = np.where(result.labels == UNLABELLED, 0, result.labels + 1)
        np.testing.assert_array_equal(task.prediction(name)[2], expected)


def test_without_a_threshold_the_labels_are_those_of_segment_without_a_background(seg, colors):
    task = segmentation_task(seg, colors)
    for name, item in zip(task.items, colors.items, strict=True):
        result = seg.segment(
            item.read_image(), ["red", "green", "blue"], threshold=0, background=(), resolution="squash:32"
        )
        np.testing.assert_array_equal(task.prediction(name)[2], result.labels)


def test_absent_classes_are_not_predicted_if_only_present_classes_are_prompted(seg, tmp_path):
    folder = color_folder(tmp_path / "more", classes=("red", "green", "blue"))
    (folder / "classes.txt").write_text("red\ngreen\nblue\nwhite\nblack\n")
    task = segmentation_task(seg, open_dataset(folder), prompts="present")
    for _, truth, labels in map(task.prediction, task.items):
        assert set(np.unique(labels)) <= set(np.unique(truth)) - {255}


def test_an_image_of_background_is_predicted_as_background_if_only_present_classes_are_prompted(seg, tmp_path):
    folder = color_folder(tmp_path / "x", count=1, classes=("background", "green", "blue"))
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(folder / "labels" / "0.png")
    dataset = open_dataset(folder)
    task = segmentation_task(seg, dataset, decision="presence", prompts="present")
    assert not task.prediction("0")[2].any()
    swept = run_task(SweepTask(seg, dataset, task.settings, Grid(thresholds=(0.2, 0.9))), tmp_path / "sweep")
    assert [row["aacc"] for row in swept.summary["sweep"]] == [1, 1]


def test_the_pixels_of_small_classes_go_to_the_best_of_the_other_classes():
    features = fgseg.DenseFeatures(torch.eye(3)[[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]].reshape(1, 10, 3), (1, 10))
    view = EncodedImage(np.zeros((1, 10, 3), np.uint8), (features,), ((0, 0, 10, 1),), (1, 10), Resolution("keep"), "x")
    text = unit(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0.5, 1]]))
    encoder = golden_encoder(CLIP)
    dataset = Dataset("x", GOLDEN, (fgseg.PromptClass("background", ("background",)),), (), has_background=True)
    chosen = replace(settings_for(fgseg.Segmenter(encoder), dataset, templates="none"), resize="area", threshold=0.001)
    texts = PromptTexts(text, (0, 1, 2), ("{}",))

    def labels(**given):
        (predicted,) = predict(view, texts, None, [replace(chosen, **given)])
        return predicted[0].tolist()

    assert labels() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 2]
    # class 2 has one of eight foreground pixels: 12.5 %
    assert labels(min_foreground_share=0.12) == [1, 1, 1, 1, 1, 1, 1, 0, 0, 2]
    # A class that covers exactly the share is dropped.
    for share in (0.125, 0.2):
        assert labels(min_foreground_share=share) == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_the_texts_of_some_classes_are_selected_in_one_pass_over_those_classes():
    passes = []

    class Watched(tuple):
        __slots__ = ()

        def __iter__(self):
            passes.append(self)
            return super().__iter__()

    texts = PromptTexts(torch.arange(8.0).reshape(4, 2), (0, 1, 1, 2), ("{}",))
    kept = texts.select(Watched((2, 1)))
    assert kept.query_to_class == (1, 1, 2)
    assert kept.text.tolist() == [[2, 3], [4, 5], [6, 7]]
    assert len(passes) == 1


def test_specks_are_kept_unless_they_are_asked_to_join(tmp_path):
    seg = fgseg.load()
    data = open_scenes("scenes-colors", count=1, side=96, first_seed=7)
    chosen = settings_for(seg, data, decision="presence")
    assert chosen.specks == "keep"
    joins = replace(chosen, specks="join")
    noise = np.random.RandomState(731).randint(0, 256, (96, 96, 3)).astype(np.uint8)
    view, task = encode(seg, noise, chosen), SegmentationTask(seg, data, chosen)
    kept, joined = predict(view, task.texts, task.rivals, [chosen, joins])
    quarter = quarter_patch(view.image_hw, view.grid_hw)
    expected = join_gaps(join_parts(kept, min_area=quarter), max_area=quarter - 1)
    np.testing.assert_array_equal(joined, expected)
    assert (kept != joined).any()
    with pytest.raises(OptionError, match="specks: expected one of keep, join"):
        replace(chosen, specks="drop")


def test_the_regions_of_a_folder_vote_for_their_images(seg, colors, tmp_path):
    folder = tmp_path / "regions"
    folder.mkdir()
    for item in colors.items:
        Image.fromarray(np.zeros((24, 32), np.uint8)).save(folder / f"{item.image_path.stem}.png")
    task = segmentation_task(seg, colors, region_map=str(folder), vote=True)
    name = next(iter(task.items))
    _, _, labels = task.prediction(name)
    assert len(np.unique(labels)) == 1
    assert task.files(name)[2] == folder / f"{Path(name).stem}.png"


def test_the_preset_lposs_propagates_over_the_patches_of_its_windows(seg, colors):
    published = replace(colors, name="voc20")
    settings = settings_for(seg, published, preset_name="lposs")
    assert (settings.propagate, str(settings.resolution)) == ("patches", "slide:448/224/112")
    assert settings_for(seg, published, preset_name="lposs", propagate="both").propagate == "both"
    assert any("dino-b16" in line for line in settings.deviations)
