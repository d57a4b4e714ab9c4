"""The command batch for a user: what it prints and refuses, and its exit statuses."""

import json
from inspect import signature

import cv2
import numpy as np
import odd_images
import pytest
import torch
from batch_jobs import in_this_process
from command_runs import DONE, FAILED, SOME_FAILED, assert_refused

import fgseg as package
from fgseg.commands import batch as command
from fgseg.errors import BatchError, DiskError
from fgseg.images.writing import write_image
from fgseg.store import batch as batch_module
from fgseg.store.batch import BatchProgress
from fgseg.store.store import Store

SMALL = ("-p", "red", "-p", "blue", "--store", "store", "--resolution", "squash:32")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setattr(batch_module, "run_tasks", in_this_process)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"{number}.png", np.full((16, 24, 3), 60 * number, np.uint8))
    return folder


def values_of(text):
    """What a table of two columns says."""
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def test_batch_prints_what_it_did_and_the_store_has_the_results(fgseg, photos):
    (photos / "notes.txt").touch()
    run = fgseg("batch", "photos", *SMALL)
    assert (run.code, run.err) == (DONE, "fgseg: left out: other files (1)\n")
    values = values_of(run.out)
    assert {name: values[name] for name in ("listed", "new", "done", "failed", "skipped")} == {
        "listed": "3", "new": "3", "done": "3", "failed": "0", "skipped": "0",
    }  # fmt: skip
    assert len(package.open_store("store")) == 3
    again = values_of(fgseg("batch", "photos", *SMALL).out)
    assert (again["done"], again["skipped"], again["run"]) == ("0", "3", values["run"])


def test_json_is_one_object_on_stdout_and_progress_on_stderr(fgseg, photos, monkeypatch):
    monkeypatch.setattr(command, "_PERIOD", 0.0)
    run = fgseg("batch", "photos", *SMALL, "--json")
    (report,) = run.records
    assert (report["done"], report["store"]) == (3, "store")
    lines = [json.loads(line) for line in run.complaints]
    assert [line["done"] for line in lines] == [1, 2, 3, 3]
    assert lines[-1]["left"] == 0
    assert set(lines[0]) == {"done", "failed", "left", "images_per_second", "seconds_left"}


def test_error_rows_give_the_exit_status_of_failed_images(fgseg, photos):
    odd_images.empty_file(photos)
    run = fgseg("batch", "photos", *SMALL)
    assert run.code == SOME_FAILED
    assert run.err == "fgseg: images with an error row: 1; fgseg store status store --errors lists them\n"
    assert fgseg("batch", "photos", *SMALL, "--retry-errors").code == SOME_FAILED
    odd_images.rgb_png(photos).rename(photos / "empty.jpg")
    assert fgseg("batch", "photos", *SMALL).code == DONE


@pytest.mark.parametrize("error", [DiskError("store: no space left"), BatchError("a.png: cannot be read now")])
def test_a_run_that_can_go_on_has_failed_and_is_no_wrong_usage(fgseg, photos, monkeypatch, error):
    def stops(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", stops)
        run = fgseg("batch", "photos", *SMALL)
    assert (run.code, run.out, run.err) == (FAILED, "", f"fgseg: error: {error}\n")
    assert fgseg("batch", "photos", *SMALL).code == DONE


def test_an_interrupted_run_says_that_it_can_go_on(fgseg, photos, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "commit", interrupted)
    run = fgseg("batch", "photos", *SMALL)
    assert run.code == 130
    assert run.complaints == [
        "fgseg: what is done is kept; give the same command again to go on", "fgseg: interrupted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard", "0/3"), "--shard: expected I/N with I from 1 to N, got '0/3'; give --shard 1/4"),
        (("--shard", "3"), "--shard: expected I/N"),
        (("--shard", "4/3"), "--shard: expected I/N"),
        (("--workers", "many"), "--workers: expected a whole number from 1, or auto, got 'many'"),
        (("--workers", "0"), "--workers: expected"),
        (("--max-hole", "3"), "--max-hole"),
        (("--threshold", "2"), "--threshold: expected"),
        (("--bands", "x"), "--bands: expected"),
        (("--engine", "dask"), "dask"),
        (("--every", "0"), "--every"),
        (("no/such.png",), "no/such.png: there is no such file or folder; check the path"),
        (("--address", ""), "address: expected"),
    ],
)
def test_wrong_usage_is_refused_before_a_store_is_made(fgseg, photos, words, message):
    assert_refused(fgseg("batch", "photos", *SMALL, *words), message)
    assert not (photos.parent / "store").exists()


def test_a_store_of_another_run_is_refused_by_the_setting(fgseg, photos):
    assert fgseg("batch", "photos", *SMALL).code == DONE
    run = fgseg("batch", "photos", *SMALL, "--min-area", "5")
    assert_refused(run, 'another run (min_area: stored "auto", now 5)', "--new-run")
    assert fgseg("batch", "photos", *SMALL, "--min-area", "5", "--new-run").code == DONE


def test_every_option_reaches_the_run(fgseg, photos):
    words = (
        "--mode", "independent", "--threshold", "0.3", "--min-area", "2", "--max-hole", "4", "--refine", "none",
        "--background", "wall", "--negative", "yellow", "--templates", "none", "--bands", "1", "--stretch", "2,98",
        "--scores", "--unit", "2", "--threads", "1", "--shard", "2/2", "--recursive", "--every", "3",
        "--propagate", "patches", "--regions", "superpixels", "--vote", "--recipe", "proxy", "--guide", "self",
    )  # fmt: skip
    run = fgseg("batch", "photos", *SMALL, *words, "--json")
    assert run.records[0]["done"] == 1  # the second of the units of two and one image
    settings = Store.open("store").identity.settings
    expected = {
        "mode": "independent", "threshold": 0.3, "min_area": 2, "max_hole": 4, "refine": "none",
        "resolution": "squash:32", "background": ["wall"], "negatives": ["yellow"], "templates": ["{}"],
        "bands": [1], "stretch": [2.0, 98.0], "scores": True, "dtype": "float32", "device": "cpu",
        "propagate": "patches", "region_map": "superpixels", "vote": True, "recipe": "proxy",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


def test_every_option_is_an_argument_of_batch_and_the_other_way_round():
    names = {"prompt": "prompts", "classes": "prompts", "negative": "negatives", "unit": "unit_size"}
    options = {names.get(name, name) for name in signature(command.batch).parameters} - {"as_json", "quiet", "verbose"}
    assert {"region_map" if name == "regions" else name for name in options} == (
        set(signature(package.batch).parameters) - {"progress"}
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vote",), "--vote: expected --regions and --vote together, got no --regions; give both or none"),
        (("--regions", "superpixels"), "--regions: expected --regions and --vote together, got no --vote; give both"),
        (("--regions", "slic", "--vote"), "--regions: expected superpixels, eomt, a label PNG"),
    ],
)
def test_regions_and_a_vote_are_given_together(fgseg, photos, words, message):
    assert_refused(fgseg("batch", "photos", *SMALL, *words), message)
    assert not (photos.parent / "store").exists()


def test_fewer_units_than_processes_are_told_unless_the_command_is_quiet(fgseg, photos):
    for number in range(3, 16):
        write_image(photos / f"{number}.png", np.full((8, 8, 3), 9, np.uint8))
    run = fgseg("batch", "photos", *SMALL, "--workers", "2")
    assert (run.code, run.err) == (
        DONE,
        "fgseg: the 16 images are in 1 unit, too few for 2 processes; a new store with --unit 8 (unit_size=8) shares "
        "the work\n",
    )
    assert fgseg("batch", "photos", *SMALL[:-4], "--store", "quiet", *SMALL[-2:], "--workers", "2", "--quiet").err == ""


def test_a_log_file_gets_a_line_now_and_then(monkeypatch, capsys):
    from tqdm import tqdm

    monkeypatch.setattr(command, "_LOG_PERIOD", 0.0)
    watch = command._watcher(tqdm(disable=True), command.ReportOptions())
    watch(BatchProgress(total=700, done=96, failed=4, seconds=10.0))
    assert capsys.readouterr().err == "fgseg: 96 done, 4 failed, 600 left, 10.00 images/s, 1 min to go\n"
    watch = command._watcher(tqdm(disable=True), command.ReportOptions(quiet=True))
    watch(BatchProgress(total=700, done=96, failed=4, seconds=10.0))
    assert capsys.readouterr().err == ""


def test_a_list_on_stdin_and_a_table_are_sources(fgseg, photos, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("photos/0.png\n"))
    assert values_of(fgseg("batch", "-", *SMALL).out)["done"] == "1"
    (photos / "list.csv").write_text("name,key\n1.png,one\n")
    run = fgseg("batch", "photos/list.csv", *SMALL, "--column", "name", "--id-column", "key")
    assert run.code == DONE
    assert sorted(row.image_id for row in package.open_store("store")) == ["one", "photos/0.png"]
