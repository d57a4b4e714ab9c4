import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.loading import load_encoder
from fgseg.scenes.composition import scene
from fgseg.segmentation.model_defaults import model_defaults
from fgseg.training.checkpoints import CHECKPOINT, METRICS, read_header, restore
from recipes.mini import batches, recipe as mini, shifts, towers
from recipes.mini.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mini, "TEXT_CONFIG", {**mini.TEXT_CONFIG, "hidden_size": 16, "intermediate_size": 32,
                                              "num_attention_heads": 2, "num_hidden_layers": 1})  # fmt: skip
    vision = {**mini.CONFIG["vision_config"], "hidden_size": 120, "intermediate_size": 32, "num_hidden_layers": 3,
              "image_size": 32}  # fmt: skip
    monkeypatch.setattr(mini, "CONFIG", {**mini.CONFIG, "projection_dim": 16, "vision_config": vision})
    monkeypatch.setattr(batches, "SMALL", (16, 16))
    monkeypatch.setattr(batches, "SMALL_STAGE", ((None, (16, 16)),))
    monkeypatch.setattr(batches, "LARGE_STAGE", ((None, (16, 16)), ("sheet", (32, 32))))
    monkeypatch.setattr(batches, "LAST_STAGE", ((None, (32, 32)), ("outdoors", (32, 32))))
    monkeypatch.setattr(batches, "ATTENTION_STAGE", ((None, (32, 32)),))


class Killed(Exception):
    pass


def features(model, pixels):
    """The features that the model itself computes."""
    unit = torch.nn.functional.normalize
    return unit(model.dense_features(pixels), dim=-1).flatten(1, 2), unit(model.image_features(pixels), dim=-1)


def checkpointed(folder):
    """The model of a checkpoint, and whether its blocks leave the reserved units alone."""
    model = mini.new_model(mini.full_config(mini.build_tokenizer()))
    restore(folder, model, mini._optimizers(model, 0.0))
    written = model.vision_model.encoder.layers[0].mlp.fc2.weight[: shifts.RESERVED]
    return model, not written.any()


def header(folder):
    return read_header(folder, ("step", "seconds"))


def logged(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_run_ends_at_its_time_limit(tiny, tmp_path):
    mini.train(tmp_path, batches.Schedule(10_000, 0, 4, 1e-3, workers=0), compiled=False, hours=2 / 3600)
    assert 0 < header(tmp_path)["step"] < 10_000
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_time_limit_of_0_is_refused(tiny, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--hours", "0"])
    message = "python -m recipes.mini: error: hours: expected a number above 0, got 0.0"
    assert capsys.readouterr().err.splitlines()[-1] == message


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # a CPU can run the implementations for both
def test_training_computes_the_features_of_the_model(tiny, device):
    torch.manual_seed(0)
    model = mini.new_model(mini.full_config(mini.build_tokenizer()))
    pixels = torch.randn(2, 3, 32, 32)
    found = mini._vision_towers(device, compiled=False)["attention"](model, pixels)
    torch.testing.assert_close(found, features(model, pixels), atol=2e-6, rtol=0)


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(tiny, tmp_path):
    folder = mini.train(tmp_path, batches.Schedule(80, 1, 8, 3e-3, workers=0), compiled=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["presence"] < 0.8 * lines[0]["presence"]
    encoder = load_encoder(str(folder), dtype="float32", device="cpu")
    assert model_defaults(encoder).background == ("anything else",)
    assert encoder.encode_texts(["red circle"]).shape == (1, 16)


def test_a_run_can_begin_with_the_weights_of_another_model(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(0, 1, 4, 1e-3, workers=0), compiled=False)
    schedule = batches.Schedule(0, 1, 4, 0.0, workers=0)
    same = mini.train(tmp_path / "same", schedule, seed=1, initial_model=first, compiled=False)
    assert (first / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    other = mini.train(tmp_path / "other", schedule, seed=1, compiled=False)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_a_run_with_shifts_takes_only_the_text_tower_of_a_model_with_attention(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(0, 1, 4, 1e-3, workers=0), compiled=False)
    then = mini.train(
        tmp_path / "then", batches.Schedule(1, 0, 4, 0.0, workers=0), seed=1, initial_model=first, compiled=False
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (first, then))
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert same >= {name for name in before if not name.startswith("vision_model.")}
    assert "vision_model.encoder.layers.0.self_attn.v_proj.weight" not in same


def test_a_run_with_shifts_takes_both_towers_of_a_model_trained_with_shifts(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(3, 0, 4, 3e-3, workers=0), compiled=False)
    mini.train(
        tmp_path / "then", batches.Schedule(1, 0, 4, 0.0, workers=0), seed=1, initial_model=first, compiled=False
    )
    (before, _), (after, keeps) = checkpointed(tmp_path / "first"), checkpointed(tmp_path / "then")
    assert keeps
    pixels = normalized_pixels(torch.from_numpy(np.stack([scene(seed, (32, 32)).image for seed in range(3)])))
    with torch.no_grad():
        for ours, theirs in zip(*(towers.shift_features(model, pixels) for model in (before, after)), strict=True):
            assert (ours * theirs).sum(-1).min() > 0.999  # bf16 on the way


def test_a_run_with_shifts_writes_an_equivalent_model_with_attention(tiny, tmp_path):
    folder = mini.train(tmp_path, batches.Schedule(3, 0, 4, 3e-3, workers=0), compiled=False)
    model, keeps = checkpointed(tmp_path)
    assert keeps
    plain = mini.new_model(mini.full_config(mini.build_tokenizer()))
    plain.load_state_dict(load_file(folder / "model.safetensors"))
    pixels = normalized_pixels(torch.from_numpy(np.stack([scene(seed, (32, 32)).image for seed in range(3)])))
    with torch.no_grad():
        for ours, theirs in zip(
            towers.shift_features(model, pixels), towers.attention_features(plain, pixels), strict=True
        ):
            assert (ours * theirs).sum(-1).min() > 0.999


def test_the_first_step_with_attention_begins_with_the_features_of_the_shifts(tiny, tmp_path):
    mini.train(tmp_path, batches.Schedule(2, 0, 4, 1e-3, workers=0), compiled=False)
    before, _ = checkpointed(tmp_path)
    mini.train(tmp_path, batches.Schedule(2, 1, 4, 0.0, workers=0), compiled=False)
    after, _ = checkpointed(tmp_path)
    pixels = normalized_pixels(torch.from_numpy(scene(9, (32, 32)).image[None]))
    with torch.no_grad():
        (ours, _), (theirs, _) = towers.shift_features(before, pixels), towers.attention_features(after, pixels)
    assert (ours * theirs).sum(-1).min() > 0.999


def test_an_interrupted_run_ends_with_the_same_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "CHECKPOINT_STEPS", 4)
    schedule = batches.Schedule(4, 4, 4, 1e-3, workers=0)
    whole = mini.train(tmp_path / "whole", schedule, compiled=False)
    steps = iter(range(7))

    def update_until_killed(*arguments, real=mini._update):
        if next(steps) == 6:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(mini, "_update", update_until_killed)
        with pytest.raises(Killed):
            mini.train(tmp_path / "resumed", schedule, compiled=False)
    with (tmp_path / "resumed" / METRICS).open("a") as lines:
        lines.write('{"step": 5, "seconds": 9}\n')  # a row that the killed run wrote after its checkpoint
    resumed = mini.train(tmp_path / "resumed", schedule, compiled=False)
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    steps_logged = [[row["step"] for row in logged(tmp_path / name)] for name in ("whole", "resumed")]
    assert steps_logged[0] == steps_logged[1]


def test_the_time_before_an_interruption_counts(tiny, tmp_path, monkeypatch):
    """With a clock that advances by an hour at every reading."""
    monkeypatch.setattr(mini, "CHECKPOINT_STEPS", 2)
    clock = iter(range(0, 10**6, 3600))
    monkeypatch.setattr(mini.time, "monotonic", lambda: next(clock))
    schedule = batches.Schedule(4, 0, 4, 1e-3, workers=0)
    mini.train(tmp_path, schedule, compiled=False)
    spent = header(tmp_path)["seconds"]
    assert spent >= 4 * 3600
    longer = batches.Schedule(8, 0, 4, 1e-3, workers=0)
    written = mini.train(tmp_path, longer, compiled=False, hours=spent / 3600)
    assert header(tmp_path)["step"] == 4
    assert written == tmp_path / "model"
    mini.train(tmp_path, longer, compiled=False, hours=spent / 3600 + 0.5)
    assert header(tmp_path)["step"] == 5


def test_a_checkpoint_holds_the_states_of_both_optimizers_and_no_pickle(tiny, tmp_path):
    mini.train(tmp_path, batches.Schedule(1, 0, 4, 1e-3, workers=0), compiled=False)
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        kinds = {name.split(".")[0] for name in file.keys()}
    assert kinds == {"model", "exp_avg", "exp_avg_sq", "step", "momentum_buffer"}


def test_the_commands_of_the_model_card_have_valid_options():
    card = (ROOT / "fgseg" / "assets" / "mini" / "README.md").read_text(encoding="utf-8")
    options = set(re.findall(r"(?<=[` ])--[a-z-]+", card))
    command = [sys.executable, "-m", "recipes.mini", "--help"]
    help_text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "`python -m recipes.mini --out" in card
    assert len(options) > 5
    assert not [option for option in options if option not in help_text]
