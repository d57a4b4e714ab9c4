"""Runs: what they record, how they continue, and which rows they refuse."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import color_folder, segmentation_task, without_timing
from PIL import Image
from safetensors.torch import load_file, save_file

from fgseg.datasets.opening import open_dataset
from fgseg.encoders.loading import load_encoder
from fgseg.errors import DatasetError, OutputError
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.report import run_document, table_rows
from fgseg.evaluation.rows import RowStore
from fgseg.evaluation.runner import run_task


def test_two_runs_give_the_same_document_except_for_the_times(seg, colors, tmp_path):
    documents = [run_document(run_task(segmentation_task(seg, colors), tmp_path / name)) for name in ("a", "b")]
    assert without_timing(documents[0]) == without_timing(documents[1])
    assert json.loads(json.dumps(documents[0], allow_nan=False)) == documents[0]


def test_the_document_of_a_run_holds_everything_that_its_figures_depend_on(seg, colors, tmp_path):
    document = run_document(run_task(segmentation_task(seg, colors), tmp_path))
    assert {"name", "revision", "weights_sha256", "recipe", "device", "dtype", "versions"} <= set(document["model"])
    assert {"name", "images", "list_sha256", "classes_sha256", "classes", "ignore"} <= set(document["data"])
    assert {
        "resolution", "resize", "templates", "decision", "logit_scale", "threshold", "background",
        "min_foreground_share", "prompts", "refine", "preset", "deviations",
    } <= set(document["settings"])  # fmt: skip
    assert (document["n_images"], document["n_failed"]) == (3, 0)
    assert set(document["table"]) == {"model", "most frequent class", "uniform random"}
    assert "seconds" in document["timing"]


def test_an_interrupted_run_continues_and_gives_the_document_of_a_whole_run(seg, colors, tmp_path):
    whole = run_document(run_task(segmentation_task(seg, colors), tmp_path / "whole"))

    def interrupted(names):
        yield names[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(segmentation_task(seg, colors), tmp_path / "part", progress=interrupted)
    rows = tmp_path / "part" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"name": "1", "mod')  # cut off by a crash
    outcome = run_task(segmentation_task(seg, colors), tmp_path / "part")
    assert outcome.resumed == 1
    assert without_timing(run_document(outcome)) == without_timing(whole)
    assert run_task(segmentation_task(seg, colors), tmp_path / "part").resumed == 3


def test_rows_of_other_settings_or_data_are_refused(seg, colors, tmp_path):
    run_task(segmentation_task(seg, colors), tmp_path / "out")
    with pytest.raises(OutputError, match=r"other settings or data: settings.logit_scale was .*, is 7"):
        run_task(segmentation_task(seg, colors, logit_scale=7.0), tmp_path / "out")
    shorter = replace(colors, items=colors.items[:2])
    with pytest.raises(OutputError, match=r"data.images was 3, is 2"):
        run_task(segmentation_task(seg, shorter), tmp_path / "out")


def test_only_an_image_that_changed_its_size_is_measured_again(seg, colors, tmp_path):
    before = run_task(segmentation_task(seg, colors), tmp_path / "out")
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(colors.items[0].image_path)
    again = run_task(segmentation_task(seg, colors), tmp_path / "out")
    assert again.resumed == 2
    assert again.provenance["data"]["list_sha256"] != before.provenance["data"]["list_sha256"]
    assert without_timing(run_document(again)) == without_timing(
        run_document(run_task(segmentation_task(seg, colors), tmp_path / "fresh"))
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.weights_sha256", {"weights_sha256": "0"}), ("model.config_sha256", {"config_sha256": "0"}),
        ("model.recipe", {"recipe": "sclip"}), ("model.dtype", {"dtype": "bfloat16"}),
        ("model.device", {"device": "cuda"}), ("model.code_sha256", {"code_sha256": "0"}),
    ],
)  # fmt: skip
def test_rows_of_another_model_are_refused(seg, colors, tmp_path, name, change):
    task = segmentation_task(seg, colors)
    run_task(task, tmp_path)
    provenance = task.provenance()
    provenance["model"] |= change
    with pytest.raises(OutputError, match=f"{name} was"):
        RowStore(tmp_path / "rows.jsonl", provenance)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_change_of_any_model_file_changes_the_provenance(tiny_model, tmp_path, file):
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


def test_the_provenance_of_a_model_includes_dtype_and_recipe(tiny_model):
    plain, other = (
        model_provenance(load_encoder(tiny_model, device="cpu", **options))
        for options in ({"dtype": "float32"}, {"dtype": "bfloat16", "recipe": "naclip"})
    )
    assert {name for name in plain if plain[name] != other[name]} == {"dtype", "recipe"}
    assert (other["dtype"], other["recipe"]) == ("bfloat16", "naclip")


def test_an_image_that_was_written_again_is_measured_again_even_if_its_size_is_the_same(seg, tmp_path):
    folder = color_folder(tmp_path / "colors")
    first = next(iter(sorted((folder / "images").iterdir())))
    pixels = np.array(Image.open(first))
    first.unlink()
    first = first.with_suffix(".bmp")
    Image.fromarray(pixels).save(first)
    colors = open_dataset(folder)
    before = run_task(segmentation_task(seg, colors), tmp_path / "out")
    size, times = first.stat().st_size, first.stat()
    Image.fromarray(pixels[::-1, ::-1]).save(first)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000))
    assert first.stat().st_size == size
    again = run_task(segmentation_task(seg, colors), tmp_path / "out")
    assert (before.resumed, again.resumed) == (0, 2)
    whole = run_task(segmentation_task(seg, colors), tmp_path / "fresh")
    assert (
        without_timing(run_document(again))
        == without_timing(run_document(whole))
        != without_timing(run_document(before))
    )
    assert run_task(segmentation_task(seg, colors), tmp_path / "out").resumed == 3


def test_the_error_names_the_first_entry_of_a_list_that_differs(tmp_path):
    RowStore(tmp_path / "rows.jsonl", {"grid": [{"a": 1, "long": "x" * 90}, {"a": 2}]})
    for grid, message in (
        ([{"a": 1, "long": "x" * 90}, {"a": 3}], r"grid\[1\].a was 2, is 3"),
        ([{"a": 1}], "grid had 2 entries, has 1"),
    ):
        with pytest.raises(OutputError, match=message):
            RowStore(tmp_path / "rows.jsonl", {"grid": grid})


def test_a_file_without_rows_of_a_run_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    with pytest.raises(OutputError, match="not the rows of a run"):
        RowStore(tmp_path / "rows.jsonl", {"a": 1})


def test_a_broken_image_gets_a_row_with_its_error_and_is_measured_again(seg, colors, tmp_path):
    path = colors.items[1].image_path
    sound = path.read_bytes()
    path.write_bytes(sound[:-60] + b"x" * 60)  # of the same size, so that the hash of the list of files stays the same
    outcome = run_task(segmentation_task(seg, colors), tmp_path / "out")
    document = run_document(outcome)
    assert (document["n_images"], document["n_failed"]) == (2, 1)
    assert document["failed"][0]["image"] == "1"
    assert str(path) in document["failed"][0]["error"]
    path.write_bytes(sound)
    mended = run_task(segmentation_task(seg, colors), tmp_path / "out")
    assert (mended.resumed, mended.failed) == (2, ())


def test_a_run_whose_images_are_all_broken_has_no_figures(seg, colors, tmp_path):
    for item in colors.items:
        item.label_path.write_bytes(b"")
    document = run_document(run_task(segmentation_task(seg, colors), tmp_path / "out"))
    assert (document["n_images"], document["n_failed"], document.get("table")) == (0, 3, None)
    assert table_rows(document) == (("",), [])


def test_labels_of_another_size_are_refused(seg, colors, tmp_path):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(colors.items[0].label_path)
    task = segmentation_task(seg, colors)
    with pytest.raises(DatasetError, match=r"expected labels of the image's size, \(24, 32\), got \(5, 5\)"):
        task.measure("0")
