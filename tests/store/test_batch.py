"""Batch runs: the same rows from every number of processes, resuming, faults, and what becomes of errors."""

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from batch_images import BAD, DUPLICATE, FORTY, write_forty, write_video
from batch_jobs import PoisonJob, in_this_process
from batch_runs import SETTINGS, WORDS, files_of, looped_rows, stored_rows
from batch_workers import wait_for

import fgseg
from fgseg.errors import BatchError, DiskError, ImageError, OptionError, PromptError, StoreError
from fgseg.images.label_png import write_label_png
from fgseg.images.writing import write_image
from fgseg.prompts.classes import parse_classes
from fgseg.segmenter import load
from fgseg.store import batch as batch_module
from fgseg.store.batch import BatchProgress, BatchRequest, EngineOptions, plan_batch, run_plan
from fgseg.store.engines.local import WorkerDied
from fgseg.store.engines.resources import cores, share_devices
from fgseg.store.engines.worker import UnitWorker
from fgseg.store.maintenance.checking import check_store
from fgseg.store.store import Store
from fgseg.store.units import UnitOptions


@pytest.fixture(autouse=True)
def _threads_are_restored():
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    return write_forty(tmp_path_factory.mktemp("batch") / "forty")


@pytest.fixture(scope="module")
def plain_rows(forty, tiny_model):
    """The rows of a plain loop, by id."""
    return looped_rows(forty, tiny_model)


@pytest.fixture
def inline(monkeypatch):
    """Units are done in this process."""
    monkeypatch.setattr(batch_module, "run_tasks", in_this_process)


@pytest.fixture
def run(tiny_model, tmp_path):
    """Runs a batch with the tiny model into the same store."""

    def batch(sources, words=WORDS, store=tmp_path / "store", **options):
        return fgseg.batch(sources, words, store, model=tiny_model, dtype="float32", **{**SETTINGS, **options})

    return batch


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_rows_of_a_plain_loop(run, forty, plain_rows, tmp_path, workers):
    seen = []
    report = run([forty], recursive=True, workers=workers, unit_size=8, progress=seen.append)
    assert (report.done, report.failed, report.skipped, report.new) == (FORTY - 2, 2, 0, FORTY)
    rows = stored_rows(tmp_path / "store")
    assert rows == plain_rows
    assert sorted(name for name, row in rows.items() if row["status"] == "error") == sorted(BAD)
    assert rows["plain_00.png"]["sha256"] == rows[DUPLICATE]["sha256"]
    names = [f"masks/run={report.run}/0000-{number:06d}.parquet" for number in range(5)]
    assert files_of(tmp_path / "store") == [
        "fgseg-store.json", "manifest/0000.parquet", *names, f"runs/{report.run}.json",
    ]  # fmt: skip
    last = seen[-1]
    assert (last.total, last.done, last.failed, last.left, last.seconds_left) == (FORTY, FORTY - 2, 2, 0, 0.0)
    assert len(seen) == FORTY + 5
    assert all(entry.done + entry.failed <= FORTY for entry in seen)


@pytest.mark.usefixtures("inline")
def test_shards_in_any_order_make_the_rows_of_a_plain_loop(run, forty, plain_rows, tmp_path):
    reports = [run([forty], recursive=True, unit_size=7, shard=(number, 3)) for number in (3, 1, 2)]
    assert [report.new for report in reports] == [FORTY, 0, 0]
    assert sum(report.done + report.failed for report in reports) == FORTY
    assert all(report.done + report.failed + report.skipped == FORTY for report in reports)
    assert stored_rows(tmp_path / "store") == plain_rows


# --- going on


@pytest.mark.usefixtures("inline")
def test_one_task_lists_the_images_and_the_others_name_a_single_one(run, forty, plain_rows, tmp_path):
    assert run([forty], recursive=True, unit_size=8, shard=(1, 3)).new == FORTY
    name = next(name for name in plain_rows if name.isascii())
    (tmp_path / "first.csv").write_text(f"uri,id\n{forty / name},{name}\n", encoding="utf-8")
    for number in (2, 3):
        report = run([tmp_path / "first.csv"], id_column="id", shard=(number, 3))
        assert (report.listed, report.new, report.changed) == (1, 0, 0)
    assert stored_rows(tmp_path / "store") == plain_rows


@pytest.fixture
def three(tmp_path):
    """A folder with three images."""
    folder = tmp_path / "three"
    folder.mkdir()
    for level, name in enumerate("abc"):
        write_image(folder / f"{name}.png", np.full((16, 24, 3), 60 * level, np.uint8))
    return folder


@pytest.mark.usefixtures("inline")
def test_only_new_and_changed_images_are_done(run, three, tmp_path, monkeypatch):
    assert run([three], unit_size=2).done == 3
    before = {row.image_id: row for row in fgseg.open_store(tmp_path / "store")}
    write_image(three / "b.png", np.full((20, 24, 3), 9, np.uint8))
    write_image(three / "d.png", np.full((16, 24, 3), 9, np.uint8))
    report = run([three])
    assert (report.listed, report.new, report.changed, report.done, report.skipped) == (4, 1, 1, 2, 2)
    rows = {row.image_id: row for row in fgseg.open_store(tmp_path / "store")}
    assert sorted(rows) == ["a.png", "b.png", "c.png", "d.png"]
    assert (before["b.png"].height, rows["b.png"].height) == (16, 20)
    assert rows["a.png"].seconds == before["a.png"].seconds
    monkeypatch.setattr(UnitWorker, "__init__", None)  # nothing is left, so no worker is made
    assert run([three]).skipped == 4


@pytest.mark.usefixtures("inline")
def test_errors_are_done_again_on_request_and_the_other_rows_are_kept(run, three, tmp_path, monkeypatch):
    monkeypatch.chdir(three)

    def listed(**options):
        monkeypatch.setattr("sys.stdin", io.StringIO("a.png\nmissing.png\nb.png\n"))
        return run(["-"], **options)

    assert (listed().failed, listed().skipped) == (1, 3)
    (before, *_) = fgseg.open_store(tmp_path / "store")
    (three / "c.png").rename(three / "missing.png")
    report = listed(retry_errors=True)
    assert (report.done, report.failed, report.skipped) == (1, 0, 2)
    rows = {row.image_id: row for row in fgseg.open_store(tmp_path / "store")}
    assert [row.status for row in rows.values()] == ["ok"] * 3
    assert (rows["a.png"].seconds, rows["a.png"].writer) == (before.seconds, before.writer)
    assert listed(retry_errors=True).done == 0


@pytest.mark.usefixtures("inline")
def test_other_settings_are_refused_by_name_unless_a_new_run_is_asked_for(run, three, tmp_path):
    first = run([three])
    with pytest.raises(StoreError, match=r"another run \(threshold: stored 0\.4, now 0\.6\).*--new-run"):
        run([three], threshold=0.6)
    second = run([three], threshold=0.6, new_run=True)
    assert (second.new, second.done) == (0, 3)
    assert first.run != second.run
    assert len(fgseg.open_store(tmp_path / "store", run=second.run)) == 3


RUN_SETTINGS = [
    ({"words": ["red"]}, "classes"), ({"background": ["wall"]}, "background"),
    ({"negatives": ["yellow"]}, "negatives"),
    ({"templates": ["a {}"]}, "templates"), ({"mode": "independent"}, "mode"), ({"threshold": "auto"}, "threshold"),
    ({"refine": "none"}, "refine"), ({"min_area": 3}, "min_area"), ({"max_hole": 0}, "max_hole"),
    ({"resolution": "squash:64"}, "resolution"), ({"bands": [1]}, "bands"), ({"stretch": (2, 98)}, "stretch"),
    ({"scores": True}, "scores"), ({"recipe": "vanilla"}, "recipe"), ({"dtype": "bfloat16"}, "dtype"),
    ({"propagate": "patches"}, "propagate"), ({"recipe": "proxy", "guide": "self"}, "guide"),
    ({"region_map": "superpixels", "vote": True}, "region_map"),
    ({"region_map": "superpixels", "vote": True}, "vote"),
]  # fmt: skip
"""Arguments with other values than the defaults, and the setting of the run that they change."""
NO_SETTINGS = {
    "sources", "store", "model", "device", "revision", "offline", "engine", "workers", "threads", "gpus_per_worker",
    "address", "unit_size", "column", "id_column", "every", "recursive", "retry_errors", "new_run", "shard", "progress",
}  # fmt: skip
"""The other arguments. The weights of the model and the kind of the device are settings, whatever names them."""


def test_every_argument_is_tried_as_a_setting_of_the_run_or_is_known_to_be_none():
    settings = {"prompts" if name == "words" else name for options, _ in RUN_SETTINGS for name in options}
    assert settings | NO_SETTINGS == set(signature(fgseg.batch).parameters)
    assert not settings & NO_SETTINGS


@pytest.mark.parametrize(("options", "name"), RUN_SETTINGS)
@pytest.mark.usefixtures("inline")
def test_every_setting_that_decides_a_result_belongs_to_the_run(tiny_model, three, tmp_path, options, name):
    def run(words, **options):
        given = {"model": tiny_model, "dtype": "float32", **SETTINGS, **options}
        fgseg.batch([three], words, tmp_path / "store", **given)

    run(WORDS)
    given = dict(options)
    with pytest.raises(StoreError, match=f"[(; ]{name}: stored "):
        run(given.pop("words", WORDS), **given)


@pytest.mark.usefixtures("inline")
def test_regions_that_vote_are_those_of_segment_and_belong_to_the_run(run, three, tiny_model, tmp_path):
    folder = tmp_path / "regions"
    folder.mkdir()
    for name in "abc":
        labels = np.repeat([[0] * 8 + [1] * 16], 16, axis=0)
        write_label_png(folder / f"{name}.png", labels, colors=[(9, 9, 9), (99, 0, 0)])
    options = {"region_map": folder, "vote": True, "background": []}
    first = run([three], **options)
    seg = load(tiny_model, dtype="float32")
    for name in "abc":
        expected = seg.segment(
            three / f"{name}.png", WORDS, region_map=folder / f"{name}.png", vote=True, background=[], **SETTINGS
        )
        stored = fgseg.open_store(tmp_path / "store").result(f"{name}.png")
        np.testing.assert_array_equal(stored.labels, expected.labels)
    folder.rename(tmp_path / "moved")
    assert run([three], **{**options, "region_map": tmp_path / "moved"}).run == first.run
    (tmp_path / "moved" / "a.png").write_bytes((tmp_path / "moved" / "b.png").read_bytes() + b" ")
    with pytest.raises(StoreError, match=r'another run \(region_map: stored "sha256:.*, now "sha256:'):
        run([three], **{**options, "region_map": tmp_path / "moved"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vote": True}, "vote: expected regions that vote"), ({"region_map": "superpixels"}, "region_map: nothing"),
        ({"region_map": "no/such.png", "vote": True}, "region_map: expected"),
        ({"region_map": "superpixels", "vote": 1}, "vote: expected True or False"),
    ],
)  # fmt: skip
def test_regions_and_a_vote_are_given_together_and_refused_before_a_store_is_made(
    run, three, tmp_path, options, message
):
    with pytest.raises(OptionError, match=message):
        run([three], **options)
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("inline")
def test_the_key_of_a_run_without_regions_is_that_of_stores_made_before(run, three, tmp_path):
    run([three])
    settings = Store.open(tmp_path / "store").identity.settings
    assert not {"region_map", "vote"} & set(settings)


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("count", "options", "warned"),
    [
        (20, {"workers": 2}, "the 20 images are in 1 unit, too few for 2 processes; a new store with --unit 10 "),
        (24, {"workers": 64, "unit_size": 16}, "in 2 units, too few for 64 processes; a new store with --unit 8 "),
        (20, {"workers": 1, "shard": (1, 2)}, "in 1 unit, too few for 2 processes; a new store with --unit 10 "),
        (20, {"workers": 2, "unit_size": 10}, ""), (20, {"workers": 1}, ""), (3, {"workers": 2}, ""),
    ],
)  # fmt: skip
def test_fewer_units_than_processes_are_told_with_the_size_that_shares_the_work(
    tiny_model, tmp_path, caplog, count, options, warned
):
    (tmp_path / "photos").mkdir()
    for number in range(count):
        write_image(tmp_path / "photos" / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
    given = {"model": tiny_model, "dtype": "float32", "device": "cpu"}
    unit_size, shard = options.pop("unit_size", None), options.pop("shard", (1, 1))
    request = BatchRequest(
        [tmp_path / "photos"], str(tmp_path / "store"), given, UnitOptions(parse_classes(WORDS), SETTINGS),
        engine=EngineOptions(**options), unit_size=unit_size, shard=shard,
    )  # fmt: skip
    plan = plan_batch(load(**given), request)
    assert (warned in caplog.text) if warned else caplog.text == ""
    caplog.clear()
    run_plan(plan)
    plan_batch(load(**given), request)  # nothing is left, or another shard
    assert caplog.text == ""


@pytest.mark.usefixtures("inline")
def test_defaults_that_are_spelt_out_are_the_same_run(run, three, tiny_model):
    defaults = load(tiny_model).defaults
    first = run([three], resolution="auto", threshold=None)
    second = run(
        [three], resolution=defaults.resolution, threshold=defaults.threshold, background=list(defaults.background),
        templates=defaults.templates, refine=defaults.refine,
    )  # fmt: skip
    assert (second.run, second.done) == (first.run, 0)


@pytest.mark.usefixtures("inline")
def test_a_unit_that_another_run_does_meanwhile_is_left_to_it(run, three, monkeypatch):
    def other_run_first(make_work, tasks, *, workers, tries):
        monkeypatch.setattr(batch_module, "run_tasks", in_this_process)
        assert run([three]).done == 3
        return in_this_process(make_work, tasks, workers=workers, tries=tries)

    monkeypatch.setattr(batch_module, "run_tasks", other_run_first)
    report = run([three], unit_size=2)
    assert (report.done, report.failed, report.skipped) == (0, 0, 3)


@pytest.mark.usefixtures("inline")
def test_frames_of_a_video_and_kept_scores(run, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=5)
    assert run([clip], every=2, scores=True).done == 3
    rows = list(fgseg.open_store(tmp_path / "store"))
    assert [row.image_id for row in rows] == ["clip.mp4#000000", "clip.mp4#000002", "clip.mp4#000004"]
    assert rows[0].scores.shape[0] == 2


def test_a_prompt_that_is_wrong_is_refused_before_a_store_is_made(run, three, tmp_path):
    with pytest.raises(PromptError):
        run([three], words=["red", "red"])
    with pytest.raises(ImageError, match="no such file or folder"):
        run([three / "none"])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: expected"), ({"workers": 1.5}, "workers: expected"),
        ({"threads": 0}, "threads: exp"),
        ({"gpus_per_worker": 0}, "gpus_per_worker: exp"), ({"gpus_per_worker": 2}, "gpus_per_worker: exp"),
        ({"engine": "dask"}, "engine: expected"), ({"shard": (0, 3)}, "shard: expected"),
        ({"shard": (4, 3)}, "shard: expected"), ({"every": 0}, "every: expected"), ({"max_hole": 3}, "max_hole"),
    ],
)  # fmt: skip
def test_options_out_of_their_range_are_refused(run, three, options, message):
    with pytest.raises(OptionError, match=message):
        run([three], **options)


def test_workers_are_one_per_core_or_per_share_of_a_gpu(monkeypatch):
    monkeypatch.setattr(batch_module, "cores", lambda: 8)
    count = batch_module._worker_count
    assert count(EngineOptions(), ["cpu"]) == 8
    assert count(EngineOptions(threads=3), ["cpu"]) == 2
    assert count(EngineOptions(workers=5), ["cpu"]) == 5
    assert count(EngineOptions(gpus_per_worker=0.25), ["cuda:0", "cuda:1"]) == 8
    assert count(EngineOptions(gpus_per_worker=0.3), ["cuda:0"]) == 3
    assert count(EngineOptions(), ["mps"]) == 1
    assert count(EngineOptions("ray", address="auto"), ["cpu"]) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert share_devices(torch.device("cuda"), "auto") == ("cuda:0", "cuda:1")
    assert share_devices(torch.device("cuda:1"), "cuda:1") == ("cuda:1",)


def test_a_container_limits_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for text, expected in (("200000 100000", 2), ("50000 100000", 1), ("max 100000", 16), ("3200000 100000", 16)):
        monkeypatch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
        assert cores() == expected


def test_progress_says_what_is_left():
    progress = BatchProgress(total=10, done=3, failed=1, seconds=2.0)
    assert (progress.left, progress.rate, progress.seconds_left) == (6, 2.0, 3.0)
    assert BatchProgress(10, 0, 0, 0.0).seconds_left is None


@pytest.mark.usefixtures("inline")
def test_files_that_python_opened_are_read_without_arrow_threads(run, three, tmp_path, monkeypatch):
    """A thread that lets go of such a file while Python ends aborts the process, in two of five runs."""
    used = []
    for name in ("read", "read_row_group"):
        read = getattr(pq.ParquetFile, name)

        def watched(self, *args, read=read, use_threads=True, **options):
            used.append(use_threads)
            return read(self, *args, use_threads=use_threads, **options)

        monkeypatch.setattr(pq.ParquetFile, name, watched)
    run([three])
    run([three], retry_errors=True)
    assert len(list(fgseg.open_store(tmp_path / "store"))) == 3
    assert list(check_store(Store.open(tmp_path / "store"))) == []
    assert set(used) == {False}


# --- faults


@pytest.fixture
def plan(tiny_model, three, tmp_path):
    """A plan over four images, one of which is poisonous for a `PoisonJob`."""
    write_image(three / "b_poison.png", np.full((16, 24, 3), 9, np.uint8))
    options = UnitOptions(parse_classes(WORDS), SETTINGS)
    model = {"model": tiny_model, "dtype": "float32", "device": "cpu"}
    request = BatchRequest([three], str(tmp_path / "store"), model, options)
    return plan_batch(load(**model), request)


def test_the_image_that_kills_its_process_gets_an_error_row_and_its_neighbours_are_done(plan, tmp_path):
    (unit,) = plan.units
    for _ in range(2):  # as two workers that died
        plan.store.record_attempt(unit)
    told = []
    counts = UnitWorker(PoisonJob(**vars(plan.job)), 0)(unit, told.append)
    assert (counts.done, counts.failed) == (3, 1)
    assert sorted(told) == [False, True, True, True]
    rows = {row.image_id: row for row in fgseg.open_store(tmp_path / "store")}
    poison = rows.pop("b_poison.png")
    advice = "look at it, then --retry-errors"
    assert poison.error_type == "ProcessDied"
    assert (
        poison.error == f"{tmp_path / 'three' / 'b_poison.png'}: its process died 2 times (killed by SIGKILL); {advice}"
    )
    assert [row.status for row in rows.values()] == ["ok"] * 3
    assert plan.store.attempts(unit) == 0


def test_a_worker_with_another_model_than_planned_refuses_to_work(plan):
    job = replace(plan.job, model={**plan.job.model, "recipe": "vanilla"})
    with pytest.raises(StoreError, match=r'another run than was planned \(recipe: stored "value", now "vanilla"\)'):
        UnitWorker(job, 0)


def test_a_unit_whose_workers_always_die_stops_the_run(plan, monkeypatch):
    monkeypatch.setattr(batch_module, "run_tasks", lambda *_, **__: (WorkerDied(unit, -9) for unit in plan.units))
    with pytest.raises(BatchError, match=r"unit 0000-000000: its worker died 6 times \(killed by SIGKILL\)"):
        run_plan(plan)


@pytest.mark.usefixtures("inline")
def test_a_store_that_cannot_be_reached_any_more_stops_a_run_that_can_go_on(plan, monkeypatch):
    def gone(*_, **__):
        raise StoreError("s3://bucket/store: not reached")

    monkeypatch.setattr(Store, "commit", gone)
    with pytest.raises(BatchError, match="not reached; when that is mended, give the same command again to go on"):
        run_plan(plan)


@pytest.mark.usefixtures("inline")
def test_a_full_disk_stops_the_run_and_leaves_no_row(run, three, tmp_path, monkeypatch):
    def full(*_, **__):
        raise DiskError("store: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", full)
        with pytest.raises(DiskError, match="No space left"):
            run([three], unit_size=2)
    assert len(fgseg.open_store(tmp_path / "store")) == 0
    assert run([three]).done == 3


def test_a_run_that_is_stopped_keeps_what_is_done_and_goes_on(run, tiny_model, three, tmp_path, monkeypatch):
    """Ctrl-C reaches all processes of a terminal, SIGTERM the command alone."""
    code = (
        "from batch_jobs import SlowJob\nimport fgseg.store.batch as batch\nfrom fgseg.__main__ import main\n"
        "batch.Job = SlowJob\nmain()"
    )
    words = [
        "batch", str(three), "-p", "red", "-p", "blue, green", "--unit", "1", "--workers", "1", "--resolution",
        "squash:32", "--threshold", "0.4", "--model", tiny_model, "--dtype", "float32",
    ]  # fmt: skip
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell lets its background jobs ignore it
    stops = {signal.SIGINT: os.killpg, signal.SIGTERM: os.kill}
    started = {
        number: subprocess.Popen(
            [sys.executable, "-c", code, *words, "--store", str(tmp_path / number.name)],
            cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard,
        )
        for number in stops
    }  # fmt: skip
    monkeypatch.setattr(batch_module, "run_tasks", in_this_process)
    for number, stop in stops.items():
        wait_for(lambda store=tmp_path / number.name: list(store.glob("masks/*/*.parquet")))
        stop(started[number].pid, number)
    for number in stops:
        store = tmp_path / number.name
        said = started[number].communicate(timeout=60)[1]
        assert started[number].returncode == 128 + number
        assert "what is done is kept; give the same command again to go on" in said
        assert "Traceback" not in said
        kept = len(fgseg.open_store(store))
        assert 1 <= kept < 3
        report = run([three], store=store)
        assert (report.done, report.skipped) == (3 - kept, kept)
        assert not [name for name in files_of(store) if ".part" in name or name.startswith("attempts")]
