import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import FG_CLIP, GOLDEN, saved_model
from training_process import OPTIONS, DrawnOnce, SparseScenes

import fgseg
from fgseg.errors import DatasetError, DeviceError, ModelNotFoundError, OptionError, TrainingError
from fgseg.images.reading import read_image
from fgseg.training import trainer
from fgseg.training.checkpoints import CHECKPOINT
from fgseg.training.loss_plot import plot_losses, running_mean
from fgseg.training.options import TrainingOptions, learning_rate, total_steps
from fgseg.training.records import FileRecords
from fgseg.training.scene_records import SceneRecords, write_scene_records
from fgseg.training.trainer import train

ROOT = Path(__file__).parents[2]
SCENES = DrawnOnce(16)


@pytest.fixture(autouse=True)
def _one_thread():
    """As in the processes of these tests, so that sums have the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start_process(model, out, *, environment=(), **options):
    """Start `tests.training_process`."""
    command = [sys.executable, "-m", "tests.training_process", model, str(out), json.dumps(options)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **dict(environment)}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def without_time(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def run(model, out, *, source=SCENES, resume=False, **changes):
    return train(model, source, out, options=replace(OPTIONS, **changes), resume=resume, show_progress=False)


# --- the same weights


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tiny_model, tmp_path):
    process = start_process(tiny_model, tmp_path / "resumed", steps=20, checkpoint_every=10, kill_at=13)
    run(tiny_model, tmp_path / "whole", source=SparseScenes(32), steps=20, checkpoint_every=10)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL, errors
    assert [row["step"] for row in metrics(tmp_path / "resumed")] == list(range(1, 14))
    with (tmp_path / "resumed" / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 14, "lo')  # an incomplete line
    run(tiny_model, tmp_path / "resumed", source=SparseScenes(32), steps=20, checkpoint_every=10, resume=True)
    for name in ("model.safetensors", CHECKPOINT):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert without_time(metrics(tmp_path / "resumed")) == without_time(metrics(tmp_path / "whole"))


def start_two(model, outs, **options):
    """Start two processes that train together, each with its own folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        start_process(
            model, out, environment={**address, "RANK": str(rank), "LOCAL_RANK": str(rank)}.items(), **options
        )
        for rank, out in enumerate(outs)
    ]


def test_two_processes_equal_one_with_the_same_global_batch(tiny_model, tmp_path):
    """Losses, and weights after five steps of AdamW, with processes without boxes and with micro-batches."""
    processes = start_two(tiny_model, [tmp_path / "two"] * 2, steps=5, batch_size=2, accumulate=2)
    run(tiny_model, tmp_path / "one", source=SparseScenes(32), steps=5, batch_size=8)
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [row["boxes"] for row in one] == [row["boxes"] for row in two]
    for expected, got in zip(without_time(one), without_time(two), strict=True):
        norm, other_norm = expected.pop("gradient_norm"), got.pop("gradient_norm")
        assert got == pytest.approx(expected, abs=1e-5)
        assert other_norm == pytest.approx(norm, rel=1e-5)
    alone, together = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    initial = load_file(Path(tiny_model) / "model.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=0, msg=name)
    moved = max(float((alone[name] - initial[name].float()).abs().max()) for name in alone)
    assert moved > 1e-3  # the weights have changed


def test_workers_do_not_change_the_result(tiny_model, tmp_path):
    for workers in (0, 2):
        run(tiny_model, tmp_path / str(workers), steps=3, workers=workers)
    assert len({(tmp_path / name / "model.safetensors").read_bytes() for name in ("0", "2")}) == 1


# --- output


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(tiny_model, tmp_path):
    outcome = run(tiny_model, tmp_path / "out", steps=30, learning_rate=1e-2, warmup=2)
    rows = metrics(tmp_path / "out")
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.9 * first
    assert (outcome.steps, outcome.bad, outcome.folder) == (30, 0, tmp_path / "out")
    assert outcome.losses["loss"] == rows[-1]["loss"]
    modes = {(tmp_path / "out" / name).stat().st_mode for name in (CHECKPOINT, "model.safetensors", "metrics.jsonl")}
    assert len(modes) == 1  # the same permissions
    seg = fgseg.load(str(tmp_path / "out"), device="cpu")
    assert seg.defaults.background == fgseg.load(tiny_model, device="cpu").defaults.background
    assert seg.segment(SCENES.sample(0)[1], ["red", "blue"]).labels.shape == (32, 32)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bad_records.jsonl", "checkpoint.safetensors", "config.json", "loss.png", "metrics.jsonl",
        "model.safetensors", "run.json", "tokenizer.json",
    ]  # fmt: skip


def test_a_learning_rate_of_0_does_not_change_the_weights(tiny_model, tmp_path):
    run(tiny_model, tmp_path / "out", steps=2, learning_rate=0.0, temperatures="keep")
    initial, end = (load_file(folder / "model.safetensors") for folder in (Path(tiny_model), tmp_path / "out"))
    assert all(torch.equal(end[name], initial[name].float()) for name in initial)


def test_stage_1_trains_on_captions_and_not_the_temperatures_of_boxes(tiny_model, tmp_path):
    run(tiny_model, tmp_path / "out", steps=3, stage=1, temperatures="keep")
    rows = metrics(tmp_path / "out")
    assert "region" not in rows[0]
    assert rows[0]["boxes"] == 0
    initial, end = (load_file(folder / "model.safetensors") for folder in (Path(tiny_model), tmp_path / "out"))
    for name in ("logit_scale_finegraind", "logit_scale_hardneg"):
        assert torch.equal(initial[name], end[name])
    assert not torch.equal(initial["logit_scale"], end["logit_scale"])


def test_a_trained_clip_is_an_fg_clip_with_a_long_route(tiny_model, tmp_path):
    tensors = load_file(Path(tiny_model) / "model.safetensors")
    added = ("position_embedding_", "filip", "logit_scale_")
    config = json.loads((Path(tiny_model) / "config.json").read_text()) | {"model_type": "clip"}
    clip = saved_model(tmp_path / "clip", {k: t for k, t in tensors.items() if not any(a in k for a in added)}, config)
    (tmp_path / "clip" / "tokenizer.json").symlink_to(Path(tiny_model) / "tokenizer.json")
    run(clip, tmp_path / "out", steps=1)
    encoder = fgseg.load(str(tmp_path / "out"), device="cpu").encoder
    assert encoder.encode_texts(["red " * 200], route="long").shape == (1, 8)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "fgclip"


def test_files_of_the_model_are_copied_and_code_is_not(tiny_model, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(tiny_model).iterdir():
        (folder / path.name).symlink_to(path)
    for name in ("preprocessor_config.json", "special_tokens_map.json", "modeling.py"):
        (folder / name).write_text("{}")
    run(str(folder), tmp_path / "out", steps=1)
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"preprocessor_config.json", "special_tokens_map.json", "tokenizer.json", "config.json"} <= kept
    assert "modeling.py" not in kept
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == json.loads(
        (folder / "config.json").read_text()
    )


def test_run_json_holds_options_data_and_versions(tiny_model, tmp_path):
    run(tiny_model, tmp_path / "out", steps=1)
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["options"]["learning_rate"] == 1e-3
    assert about["binding"]["global_batch"] == 4
    assert about["binding"]["data"] == "scenes:16:0:32"
    assert set(about["versions"]) == {"torch", "numpy", "pillow"}


# --- bad records


def test_an_unreadable_image_is_left_out_and_reported_once(tiny_model, tmp_path):
    path = write_scene_records(tmp_path, count=8, side=32)
    (tmp_path / "images" / "000003.png").write_bytes(b"no picture")
    source = FileRecords([path], tmp_path)
    run(tiny_model, tmp_path / "out", source=source, steps=4, max_bad_share=0.2, checkpoint_every=2)
    rows = metrics(tmp_path / "out")
    assert [row["images"] for row in rows] in ([3, 4, 3, 4], [4, 3, 4, 3], [3, 4, 4, 3], [4, 3, 3, 4])
    assert rows[-1]["bad"] == 1  # counted once, although it occurs in two epochs
    (line,) = (tmp_path / "out" / "bad_records.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"].startswith("unreadable image: ")
    with pytest.raises(
        DatasetError, match=r"1 of 8 records are left out \(12.5 %\): unreadable image \(1\), more than"
    ):
        run(tiny_model, tmp_path / "strict", source=source, steps=4)


def test_too_many_bad_records_are_an_error_before_the_first_step(tiny_model, tmp_path):
    path = write_scene_records(tmp_path, count=8, side=32)
    (tmp_path / "images" / "000003.png").unlink()
    with pytest.raises(DatasetError, match=r"missing file \(1\), more than the 5 % allowed; the first is .*line 4"):
        run(tiny_model, tmp_path / "out", source=FileRecords([path], tmp_path), steps=4)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_the_error_for_too_few_records_reports_the_bad_ones(tiny_model, tmp_path):
    path = write_scene_records(tmp_path, count=4, side=32)
    for name in ("000001.png", "000002.png"):
        (tmp_path / "images" / name).unlink()
    message = r"there are 2; use a smaller batch_size; 2 of 4 records are left out, the first is .*line 2: missing file"
    with pytest.raises(OptionError, match=message):
        run(tiny_model, tmp_path / "out", source=FileRecords([path], tmp_path), steps=2, max_bad_share=1.0)


# --- errors


def test_a_folder_with_a_run_or_a_model_is_not_overwritten(tiny_model, tmp_path):
    run(tiny_model, tmp_path, steps=2)
    with pytest.raises(OptionError, match=r"out: .* holds a run of 2 steps; resume it \(--resume\), or give another"):
        run(tiny_model, tmp_path, steps=2)
    with pytest.raises(OptionError, match=r"out: .* holds a model but no checkpoint of a run"):
        run(tiny_model, Path(tiny_model), steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 1e-4}, r"learning_rate: expected 0.001 as in the run in .*, got 0.0001"),
        ({"steps": 3}, "steps: expected 2 as in .* got 3"),
        ({"seed": 1}, "seed: expected 0 as in .* got 1"),
        ({"batch_size": 8}, "global_batch: expected 4 as in .* got 8"),
        ({"source": SceneRecords(20, side=32)}, "data: expected 'scenes:16:0:32' as in .* got 'scenes:20:0:32'"),
    ],
)
def test_a_run_is_not_resumed_with_other_options_or_data(tiny_model, tmp_path_factory, change, message):
    out = tmp_path_factory.getbasetemp() / "begun"
    if not out.exists():
        run(tiny_model, out, steps=2)
    with pytest.raises(OptionError, match=message):
        run(tiny_model, out, resume=True, **{"steps": 2} | change)


def test_options_that_do_not_change_the_result_may_differ_when_a_finished_run_is_resumed(tiny_model, tmp_path):
    run(tiny_model, tmp_path, steps=2)
    before = (tmp_path / "model.safetensors").read_bytes()
    for name in ("model.safetensors", "metrics.jsonl"):
        (tmp_path / name).unlink()
    outcome = run(tiny_model, tmp_path, steps=2, resume=True, batch_size=2, accumulate=2, checkpoint_every=7)
    assert (outcome.steps, (tmp_path / "model.safetensors").read_bytes()) == (2, before)


def test_processes_that_find_different_checkpoints_are_refused(tiny_model, tmp_path):
    options = {"steps": 2, "batch_size": 2}
    for process in start_two(tiny_model, [tmp_path / "disk"] * 2, **options):
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    for process in start_two(tiny_model, [tmp_path / "disk", tmp_path / "other"], resume=True, **options):
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 1
        assert "expected the same checkpoint and records for all 2 processes, got steps 2, 0; put" in errors
    assert not (tmp_path / "other").exists()


def test_resuming_without_a_checkpoint_begins_a_new_run(tiny_model, tmp_path):
    assert run(tiny_model, tmp_path / "new", steps=1, resume=True).steps == 1


def test_a_damaged_checkpoint_is_an_error(tiny_model, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(
        TrainingError, match=r"expected a checkpoint of this training, got .*; remove the file to begin"
    ):
        run(tiny_model, tmp_path, steps=1, resume=True)


def test_a_checkpoint_holds_no_pickle(tiny_model, tmp_path):
    run(tiny_model, tmp_path, steps=1)
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"model", "exp_avg", "exp_avg_sq", "step"}


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+: the loss is .* use a lower learning_rate"):
        run(tiny_model, tmp_path, steps=30, learning_rate=2e9, max_norm=0.0, warmup=0)


def test_missing_records_tokenizers_and_devices_are_errors_before_the_first_step(tiny_model, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=r"batch_size: a step needs 64 records .*but there are 16; use a smaller"):
        run(tiny_model, tmp_path, batch_size=64)
    with pytest.raises(ModelNotFoundError, match=r"words need tokenizer\.json beside the weights"):
        run(str(GOLDEN / FG_CLIP), tmp_path, steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="device: 'cuda:99' is not on this machine"):
        run(tiny_model, tmp_path, steps=1, device="cuda:99")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": 3}, "stage: expected 1 or 2, got 3"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1, got 0"),
        ({"accumulate": 1.5}, "accumulate: expected a whole number from 1, got 1.5"),
        ({"workers": -1}, "workers: expected a whole number from 0, got -1"),
        ({"steps": 0}, "steps: expected a whole number from 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a number from 0"),
        ({"learning_rate": float("inf")}, "learning_rate: expected a number from 0 to inf, got inf"),
        ({"dtype": "float16"}, "dtype: float16 overflows in contrastive training; use bfloat16 or float32"),
        ({"dtype": "int8"}, "dtype: expected one of auto, float32, bfloat16, got 'int8'"),
        ({"temperatures": "warm"}, "temperatures: expected one of copy, keep, got 'warm'"),
        ({"max_bad_share": 2.0}, "max_bad_share: expected a number from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(change, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(**change)


# --- schedule and plot


def test_the_defaults_are_the_published_ones():
    options = TrainingOptions()
    assert (options.learning_rate, options.weight_decay, options.warmup, options.batch_size) == (1e-6, 1e-3, 200, 512)
    assert total_steps(options, records=1024 + 3, world_size=1) == 2
    assert total_steps(replace(options, accumulate=2), records=4096, world_size=2) == 2


def test_the_learning_rate_rises_to_its_peak_and_decays_to_0():
    options = TrainingOptions(learning_rate=2.0, warmup=10)
    rates = [learning_rate(step, steps=100, options=options) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_the_plot_shows_every_loss(tmp_path):
    rows = [{"step": k, "loss": 3 / k, "short": 1 / k, "long": 2 / k, "learning_rate": 0.1} for k in range(1, 60)]
    (tmp_path / "loss.png").write_bytes(plot_losses(rows))
    picture = read_image(tmp_path / "loss.png")
    assert picture.shape == (600, 900, 3)
    blue = (np.abs(picture.astype(int) - (0x1F, 0x77, 0xB4)).sum(-1) < 12).sum()
    red = (np.abs(picture.astype(int) - (0xD6, 0x27, 0x28)).sum(-1) < 12).sum()
    assert blue > 300
    assert red == 0  # stage 1 has no boxes
    assert running_mean(np.arange(5.0), window=1).tolist() == [0, 1, 2, 3, 4]


def test_a_plot_is_drawn_at_every_checkpoint(tiny_model, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(trainer, "plot_losses", lambda rows: drawn.append(len(rows)) or b"png")
    run(tiny_model, tmp_path, steps=5, checkpoint_every=2)
    assert drawn == [2, 4, 5]
