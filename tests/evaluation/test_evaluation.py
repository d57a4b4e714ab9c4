"""Benchmark runs: predictions, counts, baselines, resuming, sweeps, and what is written."""

import csv
import json
import os
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import color_folder
from hypothesis import given, settings, strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import CLIP, GOLDEN, golden_encoder, golden_tensors

import fgseg
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.scenes import SCENE_SETS, SWEPT_SEED, open_scenes
from fgseg.encoders.loading import load_encoder
from fgseg.errors import DatasetError, OptionError, OutputError, PromptError
from fgseg.evaluation.html_report import best_and_worst, write_pictures
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.report import run_document, table_rows, write_run
from fgseg.evaluation.rows import RowStore
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.statistics import SEED, bootstrap, figures, image_row, pixel_counts, total_confusion
from fgseg.evaluation.tasks import segmentation as segmentation_module
from fgseg.evaluation.tasks.class_texts import known_classes
from fgseg.evaluation.tasks.prediction import encode, predict
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.evaluation.tasks.sweep import Grid, SweepTask, with_recipe
from fgseg.metrics import boundary_counts, boundary_iou, confusion, iou, mean_accuracy, mean_iou
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.similarity import unit
from fgseg.types import UNLABELLED

few = settings(deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def seg(tiny_model):
    return fgseg.Segmenter(load_encoder(tiny_model, device="cpu", dtype="float32"))


@pytest.fixture
def colors(tmp_path):
    return open_dataset(color_folder(tmp_path / "colors"))


def task_of(seg, dataset, **given):
    return SegmentationTask(seg, dataset, settings_for(seg, dataset, resolution="squash:32", **given))


def predictions(task):
    return [task.prediction(name)[1:] for name in task.items]


# --- predictions


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

    def encoded(seg, image, chosen):
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


def test_published_resizing_is_opencvs_and_the_windows_are_those_of_the_protocol(seg, colors):
    chosen = replace(settings_for(seg, colors), resolution=Resolution("slide", 48, 32, 16), resize="published")
    view = encode(seg, colors.items[0].read_image(), chosen)
    assert view.canvas_hw == (48, 64)
    assert view.boxes_xyxy == window_boxes((48, 64), crop=32, stride=16)
    whole = encode(seg, colors.items[0].read_image(), replace(chosen, resolution=Resolution("keep", 48)))
    assert whole.boxes_xyxy == ((0, 0, 64, 48),)


def test_presence_decides_as_segment_does(seg):
    dataset = open_scenes("scenes-shapes", count=3, side=48)
    task = task_of(seg, dataset, decision="presence", threshold=0.52)
    for name, item in zip(task.items, dataset.items, strict=True):
        result = seg.segment(
            item.read_image(), [entry.name for entry in dataset.classes[1:]], threshold=0.52, resolution="squash:32",
            background=task.settings.background,
        )  # fmt: skip
        expected = np.where(result.labels == UNLABELLED, 0, result.labels + 1)
        np.testing.assert_array_equal(task.prediction(name)[2], expected)


def test_without_a_threshold_every_pixel_has_its_best_class_as_segment_without_background_has(seg, colors):
    task = task_of(seg, colors)
    for name, item in zip(task.items, colors.items, strict=True):
        result = seg.segment(
            item.read_image(), ["red", "green", "blue"], threshold=0, background=(), resolution="squash:32"
        )
        np.testing.assert_array_equal(task.prediction(name)[2], result.labels)


def test_with_present_prompts_no_absent_class_is_predicted(seg, tmp_path):
    folder = color_folder(tmp_path / "more", classes=("red", "green", "blue"))
    (folder / "classes.txt").write_text("red\ngreen\nblue\nwhite\nblack\n")
    task = task_of(seg, open_dataset(folder), prompts="present")
    for truth, labels in predictions(task):
        assert set(np.unique(labels)) <= set(np.unique(truth)) - {255}


def test_an_image_of_background_alone_is_background_where_only_present_classes_are_prompted(seg, tmp_path):
    folder = color_folder(tmp_path / "x", count=1, classes=("background", "green", "blue"))
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(folder / "labels" / "0.png")
    dataset = open_dataset(folder)
    task = task_of(seg, dataset, decision="presence", prompts="present")
    assert not task.prediction("0")[2].any()
    swept = run_task(SweepTask(seg, dataset, task.settings, Grid(thresholds=(0.2, 0.9))), tmp_path / "sweep")
    assert [row["aacc"] for row in swept.summary["sweep"]] == [1, 1]


def test_small_classes_leave_their_pixels_to_the_best_of_the_others():
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
    # Exactly the share is not more than it.
    for share in (0.125, 0.2):
        assert labels(min_foreground_share=share) == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_the_rows_of_some_classes_are_chosen_in_one_pass_over_those_classes():
    passes = []

    class Watched(tuple):
        __slots__ = ()

        def __iter__(self):
            passes.append(self)
            return super().__iter__()

    texts = PromptTexts(torch.arange(8.0).reshape(4, 2), (0, 1, 1, 2), ("{}",))
    kept = texts.only(Watched((2, 1)))
    assert kept.query_to_class == (1, 1, 2)
    assert kept.text.tolist() == [[2, 3], [4, 5], [6, 7]]
    assert len(passes) == 1


# --- settings


def test_a_preset_gives_its_published_settings_and_says_what_it_does_not_reproduce(seg):
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


def test_a_presets_softmax_is_not_taken_for_presence(seg):
    classes = (fgseg.PromptClass("background", ("background",)), fgseg.PromptClass("red", ("red",)))
    voc = Dataset("voc21", GOLDEN, classes, (), has_background=True)
    made = settings_for(seg, voc, preset_name="sclip", decision="presence")
    assert (made.logit_scale, made.min_foreground_share) == (seg.encoder.logit_scale, 0)
    assert made.threshold == seg.defaults.threshold
    assert any("decided by presence" in line for line in made.deviations)
    assert settings_for(seg, voc, preset_name="sclip", decision="presence", threshold=0.7).threshold == 0.7


def test_a_threshold_without_a_background_is_refused(seg, colors):
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
        ({"decision": "presence", "background": ()}, "background: expected words, with which presence"),
        ({"decision": "presence", "min_foreground_share": 0.1}, "min_foreground_share: expected 0 with decision"),
    ],
)
def test_settings_out_of_range_are_refused(seg, colors, given, message):
    with pytest.raises(OptionError, match=message):
        settings_for(seg, colors, **given)


def test_an_unknown_word_says_which_classes_could_be_measured(seg, tmp_path):
    folder = color_folder(tmp_path / "pets", classes=("red", "zeppelin", "blue"))
    dataset = open_dataset(folder)
    task = task_of(seg, dataset)
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
        known_classes(seg, dataset.only(["zeppelin"]), ("{}",))


# --- counts


@st.composite
def labelled(draw):
    rng = np.random.RandomState(draw(st.integers(0, 2**31 - 1)))
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    truth = rng.choice([0, 1, 2, 255], size).astype(np.int32)
    return rng.choice([0, 1, 2, UNLABELLED], size).astype(np.int32), truth


def mean_of(per_class):
    there = per_class[np.isfinite(per_class)]
    return there.mean() if len(there) else np.nan


@few
@given(images=st.lists(labelled(), min_size=1, max_size=4))
def test_figures_are_those_of_the_metrics_on_the_summed_confusion(images):
    rows = [
        image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])
        for i, (labels, truth) in enumerate(images)
    ]
    made = pixel_counts(rows, 3, prompts="all", has_background=True)
    values = figures(made["model"].sum(0))
    counts = sum(confusion(np.where(p < 0, 3, p), t, 4) for p, t in images)
    edges = sum(boundary_counts(np.where(p < 0, 3, p), t, 4) for p, t in images)
    np.testing.assert_array_equal(total_confusion(rows, 3), counts[:3])
    # The column of unlabelled pixels is no class: its own score is left out.
    np.testing.assert_allclose(values["miou"], mean_of(iou(counts)[:3]))
    np.testing.assert_allclose(values["macc"], mean_accuracy(counts))
    np.testing.assert_allclose(values["boundary_iou"], mean_of(boundary_iou(edges)[:3]))
    if not any((p < 0).any() for p, _ in images):
        np.testing.assert_allclose(values["miou"], mean_iou(counts))


@few
@given(images=st.lists(labelled(), min_size=1, max_size=4))
def test_the_guess_is_counted_as_a_prediction_of_it_would_be(images):
    def guess(index, truth):
        seed = [SEED, zlib.crc32(str(index).encode())]
        return np.random.default_rng(seed).integers(0, 3, truth.shape).astype(np.int32)

    options = {"num_classes": 3, "ignore": 255, "prompted": [0, 1, 2]}
    rows = [image_row(t, t, name=str(i), **options) for i, (_, t) in enumerate(images)]
    guesses = [image_row(guess(i, t), t, name="", **options) for i, (_, t) in enumerate(images)]
    expected = pixel_counts(guesses, 3, prompts="all", has_background=False)["model"]
    made = pixel_counts(rows, 3, prompts="all", has_background=False)["uniform random"]
    np.testing.assert_array_equal(made, expected)


def test_what_is_kept_of_a_guess_grows_with_the_classes_and_not_with_their_pairs():
    truth = np.random.RandomState(0).randint(0, 60, (64, 64)).astype(np.int32)
    row = image_row(truth, truth, num_classes=60, ignore=255, name="a", prompted=range(60))
    assert len(row["random"]["classes"]) == 60


@few
@given(images=st.lists(labelled(), min_size=1, max_size=4), has_background=st.booleans())
def test_constant_baselines_are_what_predicting_one_class_everywhere_would_count(images, has_background):
    rows = [
        image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])
        for i, (labels, truth) in enumerate(images)
    ]
    made = pixel_counts(rows, 3, prompts="all", has_background=has_background)
    totals = sum(np.bincount(t[t != 255], minlength=3) for _, t in images)
    wanted = {"most frequent class": int(totals.argmax())} | ({"all background": 0} if has_background else {})
    assert set(made) == {"model", *wanted, "uniform random"}
    for name, index in wanted.items():
        drawn = [
            image_row(np.full_like(t, index), t, num_classes=3, ignore=255, name="", prompted=[0]) for _, t in images
        ]
        np.testing.assert_array_equal(made[name], pixel_counts(drawn, 3, prompts="all", has_background=False)["model"])


def test_with_present_prompts_the_frequent_baseline_takes_the_most_frequent_class_that_is_there():
    images = [np.full((4, 4), 0, np.int32), np.full((2, 2), 1, np.int32)]
    rows = [image_row(t, t, num_classes=2, ignore=255, name=str(i), prompted=[0]) for i, t in enumerate(images)]
    made = pixel_counts(rows, 2, prompts="present", has_background=False)["most frequent class"]
    assert made[:, 0].tolist() == [[16, 0], [0, 4]]
    assert pixel_counts(rows, 2, prompts="all", has_background=False)["most frequent class"][1, 0].sum() == 0


def test_an_interval_leaves_two_and_a_half_percent_on_either_side():
    """Of 1 of 1 right in half of 400 images and 0 of 1 in the others: about 2 * sqrt(0.25 / 400) around a half."""
    per_image = np.zeros((400, 6, 1), np.int64)
    per_image[:, 1:3], per_image[::2, 0] = 1, 1
    low, high = bootstrap(per_image)["aacc"]
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_an_interval_holds_the_figure_and_is_a_point_where_all_images_are_alike():
    rng = np.random.RandomState(3)
    per_image = rng.randint(1, 50, (30, 6, 2))
    per_image[:, 1:3] += per_image[:, :1]
    per_image[:, 4:] += per_image[:, 3:4]
    for name, (low, high) in bootstrap(per_image).items():
        assert low < figures(per_image.sum(0))[name] < high
    same = np.repeat(per_image[:1], 5, 0)
    for name, (low, high) in bootstrap(same).items():
        np.testing.assert_allclose([low, high], figures(same.sum(0))[name])


# --- runs


def strip(document):
    return {key: value for key, value in document.items() if key != "timing"}


def test_two_runs_give_the_same_document_but_for_the_time(seg, colors, tmp_path):
    documents = [run_document(run_task(task_of(seg, colors), tmp_path / name)) for name in ("a", "b")]
    assert strip(documents[0]) == strip(documents[1])
    assert json.loads(json.dumps(documents[0], allow_nan=False)) == documents[0]


def test_a_run_says_everything_that_its_number_depends_on(seg, colors, tmp_path):
    document = run_document(run_task(task_of(seg, colors), tmp_path))
    assert {"name", "revision", "weights_sha256", "recipe", "device", "dtype", "versions"} <= set(document["model"])
    assert {"name", "images", "list_sha256", "classes_sha256", "classes", "ignore"} <= set(document["data"])
    assert {
        "resolution", "resize", "templates", "decision", "logit_scale", "threshold", "background",
        "min_foreground_share", "prompts", "refine", "preset", "deviations",
    } <= set(document["settings"])  # fmt: skip
    assert (document["n_images"], document["n_failed"]) == (3, 0)
    assert set(document["table"]) == {"model", "most frequent class", "uniform random"}
    assert "seconds" in document["timing"]


def test_an_interrupted_run_goes_on_and_gives_what_a_whole_one_gives(seg, colors, tmp_path):
    whole = run_document(run_task(task_of(seg, colors), tmp_path / "whole"))

    def interrupted(names):
        yield names[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(task_of(seg, colors), tmp_path / "part", progress=interrupted)
    rows = tmp_path / "part" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"name": "1", "mod')  # cut off by a crash
    outcome = run_task(task_of(seg, colors), tmp_path / "part")
    assert outcome.resumed == 1
    assert strip(run_document(outcome)) == strip(whole)
    assert run_task(task_of(seg, colors), tmp_path / "part").resumed == 3


def test_rows_of_other_settings_or_data_are_refused(seg, colors, tmp_path):
    run_task(task_of(seg, colors), tmp_path / "out")
    with pytest.raises(OutputError, match=r"other settings or data: settings.logit_scale was .*, is 7"):
        run_task(task_of(seg, colors, logit_scale=7.0), tmp_path / "out")
    shorter = replace(colors, items=colors.items[:2])
    with pytest.raises(OutputError, match=r"data.images was 3, is 2"):
        run_task(task_of(seg, shorter), tmp_path / "out")


def test_a_picture_of_another_size_is_measured_anew_alone(seg, colors, tmp_path):
    before = run_task(task_of(seg, colors), tmp_path / "out")
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(colors.items[0].image_path)
    again = run_task(task_of(seg, colors), tmp_path / "out")
    assert again.resumed == 2
    assert again.provenance["data"]["list_sha256"] != before.provenance["data"]["list_sha256"]
    assert strip(run_document(again)) == strip(run_document(run_task(task_of(seg, colors), tmp_path / "fresh")))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.weights_sha256", {"weights_sha256": "0"}), ("model.config_sha256", {"config_sha256": "0"}),
        ("model.recipe", {"recipe": "sclip"}), ("model.dtype", {"dtype": "bfloat16"}),
        ("model.device", {"device": "cuda"}), ("model.code_sha256", {"code_sha256": "0"}),
    ],
)  # fmt: skip
def test_rows_of_another_model_are_refused(seg, colors, tmp_path, name, change):
    task = task_of(seg, colors)
    run_task(task, tmp_path)
    provenance = task.provenance()
    provenance["model"] |= change
    with pytest.raises(OutputError, match=f"{name} was"):
        RowStore(tmp_path / "rows.jsonl", provenance)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_is_known_by_each_of_its_files(tiny_model, tmp_path, file):
    for path in Path(tiny_model).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = model_provenance(load_encoder(str(tmp_path), device="cpu", dtype="float32"))
    if file == "model.safetensors":
        tensors = load_file(tmp_path / file)
        save_file({name: 2 * tensor for name, tensor in tensors.items()}, tmp_path / file)
    else:
        (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
    after = model_provenance(load_encoder(str(tmp_path), device="cpu", dtype="float32"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"weights_sha256" if file == "model.safetensors" else "config_sha256"}


def test_a_dtype_and_a_recipe_are_part_of_a_model(tiny_model):
    plain, other = (
        model_provenance(load_encoder(tiny_model, device="cpu", **options))
        for options in ({"dtype": "float32"}, {"dtype": "bfloat16", "recipe": "naclip"})
    )
    assert {name for name in plain if plain[name] != other[name]} == {"dtype", "recipe"}
    assert (other["dtype"], other["recipe"]) == ("bfloat16", "naclip")


def test_a_picture_that_was_written_anew_is_measured_anew_though_its_size_is_the_same(seg, tmp_path):
    folder = color_folder(tmp_path / "colors")
    first = next(iter(sorted((folder / "images").iterdir())))
    pixels = np.array(Image.open(first))
    first.unlink()
    first = first.with_suffix(".bmp")
    Image.fromarray(pixels).save(first)
    colors = open_dataset(folder)
    before = run_task(task_of(seg, colors), tmp_path / "out")
    size, times = first.stat().st_size, first.stat()
    Image.fromarray(pixels[::-1, ::-1]).save(first)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000))
    assert first.stat().st_size == size
    again = run_task(task_of(seg, colors), tmp_path / "out")
    assert (before.resumed, again.resumed) == (0, 2)
    whole = run_task(task_of(seg, colors), tmp_path / "fresh")
    assert strip(run_document(again)) == strip(run_document(whole)) != strip(run_document(before))
    assert run_task(task_of(seg, colors), tmp_path / "out").resumed == 3


def test_what_differs_in_a_list_is_its_first_other_entry(tmp_path):
    RowStore(tmp_path / "rows.jsonl", {"grid": [{"a": 1, "long": "x" * 90}, {"a": 2}]})
    for grid, message in (
        ([{"a": 1, "long": "x" * 90}, {"a": 3}], r"grid\[1\].a was 2, is 3"),
        ([{"a": 1}], "grid had 2 entries, has 1"),
    ):
        with pytest.raises(OutputError, match=message):
            RowStore(tmp_path / "rows.jsonl", {"grid": grid})


def test_a_file_that_is_no_rows_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    with pytest.raises(OutputError, match="not the rows of a run"):
        RowStore(tmp_path / "rows.jsonl", {"a": 1})


def test_a_broken_image_is_a_row_with_its_error_and_is_tried_again(seg, colors, tmp_path):
    path = colors.items[1].image_path
    sound = path.read_bytes()
    path.write_bytes(sound[:-60] + b"x" * 60)  # the same size: the list of files is the same
    outcome = run_task(task_of(seg, colors), tmp_path / "out")
    document = run_document(outcome)
    assert (document["n_images"], document["n_failed"]) == (2, 1)
    assert document["failed"][0]["image"] == "1"
    assert str(path) in document["failed"][0]["error"]
    path.write_bytes(sound)
    mended = run_task(task_of(seg, colors), tmp_path / "out")
    assert (mended.resumed, mended.failed) == (2, ())


def test_a_run_of_broken_images_alone_has_no_figures(seg, colors, tmp_path):
    for item in colors.items:
        item.label_path.write_bytes(b"")
    document = run_document(run_task(task_of(seg, colors), tmp_path / "out"))
    assert (document["n_images"], document["n_failed"], document.get("table")) == (0, 3, None)
    assert table_rows(document) == (("",), [])


def test_labels_of_another_size_are_a_row_with_an_error(seg, colors, tmp_path):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(colors.items[0].label_path)
    task = task_of(seg, colors)
    with pytest.raises(DatasetError, match=r"expected labels of the image's size, \(24, 32\), got \(5, 5\)"):
        task.measure("0")


# --- what is written


def test_a_run_writes_json_a_table_of_classes_a_figure_and_a_page_of_its_own(seg, colors, tmp_path):
    task = task_of(seg, colors)
    outcome = run_task(task, tmp_path)
    written = [*write_run(outcome, tmp_path), *write_pictures(task, outcome, tmp_path)]
    assert [path.name for path in written] == ["run.json", "classes.csv", "figure.png", "report.html"]
    document = json.loads((tmp_path / "run.json").read_text())
    rows = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["red", "green", "blue"]
    for row, entry in zip(rows, document["classes"], strict=True):
        assert (row["iou"] == "") == (entry["iou"] is None)
        assert entry["iou"] is None or abs(float(row["iou"]) - entry["iou"]) < 1e-6
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 9
    assert not re.search(r"""(src|href)=['"](?!data:)""", page)


def test_the_page_escapes_names(seg, tmp_path):
    dataset = open_dataset(color_folder(tmp_path / "x"))
    first, *others = dataset.classes
    odd = dataset.with_prompts((replace(first, name="<b>&red"), *others))
    task = task_of(seg, odd)
    write_pictures(task, run_task(task, tmp_path / "out"), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;red" in page


def test_best_and_worst_share_no_image():
    rows = [{"name": str(i), "model": {"confusion": [[0, 0, i + 1], [0, 1, 9 - i]]}} for i in range(5)]
    assert best_and_worst(rows, 2, num_classes=2) == (["4", "3"], ["0", "1"])
    best, worst = best_and_worst(rows, 9, num_classes=2)
    assert sorted(best + worst) == ["0", "1", "2", "3", "4"]


def test_pixels_that_nothing_won_are_missed_and_no_class_of_their_own_when_images_are_ranked():
    confusions = {"half": [[0, 0, 7], [0, 1, 3], [1, 1, 7], [1, 0, 3]], "nine tenths": [[0, 0, 90], [0, 2, 10]]}
    rows = [{"name": name, "model": {"confusion": confusion}} for name, confusion in confusions.items()]
    assert best_and_worst(rows, 1, num_classes=2) == (["nine tenths"], ["half"])


@few
@given(images=st.lists(labelled(), min_size=1, max_size=6))
def test_images_are_ranked_by_the_mean_iou_that_a_run_of_them_alone_would_have(images):
    rows = [
        {"name": str(i), **image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])}
        for i, (labels, truth) in enumerate(images)
    ]
    alone = figures(pixel_counts(rows, 3, prompts="all", has_background=False)["model"])["miou"]
    best, worst = best_and_worst(rows, len(rows), num_classes=3)
    ranked = [alone[int(name)] for name in (*best, *reversed(worst))]
    np.testing.assert_allclose(ranked, sorted(alone[np.isfinite(alone)], reverse=True), atol=1e-12)  # sums of 3 shares


# --- sweeps


def test_a_sweep_gives_each_setting_the_figures_of_its_own_run_and_encodes_an_image_once(seg, tmp_path, monkeypatch):
    dataset = open_scenes("scenes-shapes", count=2, side=48, first_seed=SWEPT_SEED)
    grid = Grid(("value", "sclip"), ("squash:32", "squash:48"), ("none", "guided"), (10.0, 30.0), (0.0, 0.08))
    base = settings_for(seg, dataset)
    calls = []
    original = type(seg.encoder).encode_images
    monkeypatch.setattr(
        type(seg.encoder), "encode_images", lambda self, *a, **k: calls.append(self.recipe) or original(self, *a, **k)
    )
    outcome = run_task(SweepTask(seg, dataset, base, grid), tmp_path / "sweep")
    assert len(calls) == 2 * 2 * 2  # images, recipes, resolutions
    rows = outcome.summary["sweep"]
    assert len(rows) == 32
    for index in (0, 5, 14, 23, 31):
        row = rows[index]
        one = settings_for(
            seg, dataset, resolution=row["resolution"], refine=row["refine"],
            logit_scale=row["logit_scale"], threshold=row["threshold"],
        )  # fmt: skip
        alone = run_task(SegmentationTask(with_recipe(seg, row["recipe"]), dataset, one), tmp_path / str(index))
        np.testing.assert_allclose(row["miou"], alone.summary["table"]["model"]["miou"]["value"])
        np.testing.assert_allclose(row["aacc"], alone.summary["table"]["model"]["aacc"]["value"])
    chosen = outcome.summary["chosen"]
    assert chosen["miou"] == max(row["miou"] for row in rows)
    assert chosen["on"]["name"] == "scenes-shapes"
    assert chosen["on"]["list_sha256"] == outcome.provenance["data"]["list_sha256"]


def test_a_sweep_of_presence_thresholds_is_that_of_single_runs(seg, tmp_path):
    dataset = open_scenes("scenes-shapes", count=2, side=48)
    base = settings_for(seg, dataset, decision="presence", resolution="squash:32")
    outcome = run_task(SweepTask(seg, dataset, base, Grid(thresholds=(0.3, 0.52))), tmp_path / "sweep")
    for row in outcome.summary["sweep"]:
        alone = run_task(
            task_of(seg, dataset, decision="presence", threshold=row["threshold"]), tmp_path / str(row["threshold"])
        )
        np.testing.assert_allclose(row["miou"], alone.summary["table"]["model"]["miou"]["value"])


def test_a_sweep_of_what_changes_nothing_is_refused(seg, colors):
    with pytest.raises(OptionError, match="logit_scale: colors has no background class, so it changes no label"):
        SweepTask(seg, colors, settings_for(seg, colors), Grid(logit_scales=(10.0, 20.0)))


def test_a_sweep_under_a_preset_says_of_each_row_how_it_was_resized_and_what_differs(seg, colors):
    standard_set = replace(colors, name="ade20k")
    base = settings_for(seg, standard_set, preset_name="naclip")
    grid = Grid(("value", "naclip"), ("auto", "slide:32/32/16", "squash:32"), ("none", "pamr"))
    task = SweepTask(seg, standard_set, base, grid)
    for row in task.described:
        assert row["resize"] == ("area" if row["resolution"].startswith("squash") else "published")
        assert ("recipe value in place of naclip" in row["deviations"]) == (row["recipe"] == "value")
        assert any("pamr sees" in line for line in row["deviations"]) == (row["refine"] == "pamr")
        for own in base.deviations:
            assert own in row["deviations"] or own.startswith("recipe ")


@pytest.mark.parametrize("given", [{"refinements": ("none", "none")}, {"thresholds": ()}])
def test_a_grid_has_each_value_once(given):
    with pytest.raises(OptionError, match=f"{next(iter(given))}: expected one value or more, each once"):
        Grid(**given)


def test_an_unknown_recipe_is_refused_before_anything_is_measured(seg, colors):
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        SweepTask(seg, colors, settings_for(seg, colors), Grid(recipes=("value", "foo")))


def test_a_run_says_which_code_made_it(seg):
    made = model_provenance(seg.encoder)
    assert len(made["code_sha256"]) == 64
    assert {"python", "pycocotools"} <= set(made["versions"])


def test_recipes_share_weights_and_unknown_ones_are_refused(seg):
    other = with_recipe(seg, "naclip")
    assert other.encoder.recipe == "naclip"
    assert other.encoder.model is seg.encoder.model
    assert with_recipe(seg, "value") is seg
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        with_recipe(seg, "best")


# --- scenes


@pytest.mark.parametrize("name", SCENE_SETS)
def test_scenes_are_a_labelled_set_whose_files_do_not_exist(name):
    dataset = open_scenes(name, count=2, side=40)
    seen = np.unique(np.stack([item.read_labels() for item in dataset.items]))
    assert set(seen) <= {*range(len(dataset.classes)), 255}
    assert dataset.items[0].read_image().shape == (40, 40, 3)
    np.testing.assert_array_equal(
        dataset.items[0].read_labels(), open_scenes(name, count=1, side=40).items[0].read_labels()
    )


def test_figures_and_choices_are_of_different_scenes():
    measured, swept = (open_scenes("scenes-colors", count=3, first_seed=s).items for s in (10_000_000, SWEPT_SEED))
    assert not {item.name for item in measured} & {item.name for item in swept}


def test_an_unknown_set_of_scenes_is_refused():
    with pytest.raises(OptionError, match="name: expected one of scenes-colors"):
        open_scenes("scenes")
    with pytest.raises(OptionError, match="count: expected a whole number"):
        open_scenes("scenes-colors", count=1.5)
