"""The command `fgseg train` for a user."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest

from fgseg.commands.train import train as command
from fgseg.training.options import TrainingOptions
from fgseg.training.records import parse_record
from fgseg.training.scene_records import write_scene_records

QUICK = ("--batch-size", "4", "--warmup", "1", "--workers", "0", "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def train(fgseg):
    """Runs `fgseg train` in an empty folder; returns the exit status, stdout and stderr."""

    def run(*words, **model):
        done = fgseg("train", *words, **model)
        return done.code, done.out, done.err

    return run


def test_help_names_every_option_and_the_published_defaults(train):
    code, out, err = train("--help", model=None)
    assert (code, err) == (0, "")
    for option in (
        "--model", "--data", "--images", "--out", "--stage", "--resume", "--batch-size", "--accumulate", "--epochs",
        "--steps", "--learning-rate", "--warmup", "--weight-decay", "--dtype", "--device", "--seed",
        "--checkpoint-every", "--max-bad-share", "--gradient-checkpointing", "--from-scratch", "--temperatures",
    ):  # fmt: skip
        assert option in out
    assert "torchrun" in out


def test_the_defaults_are_those_of_the_training_options():
    parameters = inspect.signature(command).parameters
    for option in dataclasses.fields(TrainingOptions):
        assert parameters[option.name].default == option.default, option.name


def test_training_on_record_files_can_be_resumed(train, tmp_path):
    write_scene_records(tmp_path / "data", count=8, side=32)
    words = ("--data", "data/records.jsonl", "--images", "data", "--out", "out", "--steps", "2", *QUICK)
    code, out, err = train(*words, "--json")
    report = json.loads(out)
    assert (code, report["steps"], report["bad_records"], report["model"]) == (0, 2, 0, "out")
    assert {"loss", "short", "long", "region", "hard"} < set(report)
    assert "0 of 8 records are left out (0 %)" in err
    assert Path("out/loss.png").read_bytes()[1:4] == b"PNG"
    code, out, err = train(*words)
    assert (code, out) == (2, "")
    assert "out holds a run of 2 steps; resume it (--resume)" in err
    code, out, err = train(*words, "--resume")
    assert (code, out.splitlines()[0].split()) == (0, ["model", "out"])
    assert "resuming from step 2 of 2" in err


def test_scenes_need_no_files(train):
    words = ("--data", "scenes:4", "--steps", "1", "--stage", "1", *QUICK)
    code, _, err = train(*words, "--out", "out")
    assert code == 0
    assert "fgseg: --warmup: the run has 1 steps, so 1 steps of warm-up do not end\n" in err
    code, _, err = train(*words, "--out", "silent", "--quiet")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--data", "r.jsonl"),
            "--images: expected the folder that the paths in f_path are relative to, got none",
        ),
        (("--data", "scenes:many"), "--data: expected a single scenes:N with N of at least 1, got 'scenes:many'"),
        (("--data", "scenes:4", "--data", "r.jsonl"), "--data: expected a single scenes:N"),
        (("--data", "r.jsonl", "--images", "."), "data: expected a .json or .jsonl file or a folder of them"),
        (("--data", "scenes:4", "--dtype", "float16"), "dtype: float16 overflows"),
        (("--data", "scenes:4", "--stage", "3"), "--stage"),
        (("--data", "scenes:4"), "--batch-size: a step needs 512 records"),
        ((), "--data"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(train, words, message):
    code, out, err = train(*words, "--out", "out", "--device", "cpu")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("fgseg: error: ")


def test_the_record_and_the_options_in_the_documentation_are_valid(train):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert parse_record(json.loads(example)).regions[0].negatives == ("a blue cup", "a red glass", "a red plate")
    options = {word for line in re.findall(r"fgseg(?:\.cli)? train (.*?)\n(?!    )", text, re.DOTALL) for word in
               re.findall(r"--[a-z-]+", line)}  # fmt: skip
    _, out, _ = train("--help", model=None)
    assert len(options) > 8
    assert not [option for option in options if option not in out]
