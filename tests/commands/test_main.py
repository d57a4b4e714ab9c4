"""The command line for a user: help, usage errors, models, stdout and stderr, signals and pipes."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import odd_images
import pytest
from command_runs import DONE, FAILED, INTERRUPTED, SOME_FAILED, USAGE, Run, assert_refused, run_json

from fgseg._version import __version__
from fgseg.commands import main as cli
from fgseg.images.writing import write_image

ROOT = Path(__file__).parents[2]


# --- help and usage


@pytest.mark.parametrize("command", ["segment", "heatmap", "boxes", "rank", "models", "doctor"])
def test_every_command_has_help(fgseg, command):
    run = fgseg(command, "--help", model=None)
    assert (run.code, run.err) == (DONE, "")
    assert f"Usage: fgseg {command}" in run.out


def test_without_arguments_the_help_goes_to_stderr_and_it_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([])
    captured = capsys.readouterr()
    assert (left.value.code, captured.out) == (USAGE, "")
    assert "segment" in captured.err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == DONE
    assert capsys.readouterr().out == f"fgseg {__version__}\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["segmnt", "a.png"], ["No such command 'segmnt'", "fgseg --help"]),
        (["segment", "-p", "red"], ["Missing", "fgseg segment --help"]),
        (["segment", "a.png", "--promt", "red"], ["No such option", "--promt"]),
        (["segment", "a.png", "-p", "red", "--mode", "fuzzy"], ["--mode", "'fuzzy'", "'independent'"]),
        (["segment", "a.png", "-p", "red", "--refine", "crf"], ["--refine", "'crf'", "'guided'"]),
        (["segment", "a.png", "-p", "red", "--min-area", "-1"], ["--min-area"]),
        (["segment", "a.png", "-p", "red", "--max-hole", "few"], ["--max-hole"]),
        (["rank", "a.png", "-p", "red", "--route", "wide"], ["--route", "'wide'"]),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_2(fgseg, words, parts):
    assert_refused(fgseg(*words, model=None), *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--format", "pdf"], ["--format: expected one of labels", "'pdf'"]),
        (["--threshold", "1.5"], ["--threshold: expected a number from 0 to 1 or auto", "'1.5'"]),
        (["--threshold", "nan"], ["--threshold: expected a number from 0 to 1 or auto", "'nan'"]),
        (["--threshold", "half"], ["--threshold", "'half'"]),
        (["--resolution", "huge"], ["--resolution: expected", "'huge'"]),
        (["--resolution", "slide:1/2"], ["resolution: expected", "'slide:1/2'"]),
        (["--resolution", "keep:5000"], ["resolution: expected sizes", "'keep:5000'", "at most max_side 2048"]),
        (["--resolution", "slide:64/32/48"], ["resolution: expected sizes", "'slide:64/32/48'", "stride"]),
        (["--device", "cuda:97"], ["--device: 'cuda:97' is not on this machine", "use --device auto"]),
        (["--device", "tpu9"], ["--device: expected auto, cpu, cuda", "'tpu9'"]),
        (["--dtype", "int8"], ["--dtype: expected one of auto, float32", "'int8'"]),
        (["--recipe", "mystery"], ["--recipe: expected one of value", "'mystery'"]),
        (["--templates", "nosuch.txt"], ["nosuch.txt"]),
        (["--classes", "nosuch.txt"], ["nosuch.txt"]),
        (["--max-hole", "5"], ["--max-hole: filling a hole", "use --mode independent"]),
        (["--max-hole", "some"], ["--max-hole: expected a whole number of pixels from 0, or auto, got 'some'"]),
        (["--min-area", "2.5"], ["--min-area: expected a whole number of pixels from 0, or auto, got '2.5'"]),
        (["--background", ""], ["--background: one prompt alone has nothing to compete with"]),
        (["-p", ""], ["--prompt (number 2)"]),
        (["-p", "blue,,green"], ["--prompt (number 2)"]),
        (["-p", "Red"], ["'Red'", "drop one"]),
        (["-p", "spaceship"], ["has never seen the word 'spaceship'", "fg-clip-base"]),
        (["--negative", "spaceship"], ["has never seen the word 'spaceship'"]),
        (["-p", "red " * 80], ["expected at most 77 tokens", "got 82"]),
        (["--negative", "red"], ["'red'", "take it out of one of the two"]),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(fgseg, photo, words, parts):
    assert_refused(fgseg("segment", photo, "-p", "red", *words), *parts)


def test_words_that_the_embedded_model_lacks_end_in_the_command_that_knows_any_word(fgseg, photo):
    run = fgseg("segment", photo, "-p", "spaceship, space ship", "-p", "red", model=None)
    assert run.code == USAGE
    error, hint, command, size = run.err.splitlines()
    assert hint == (
        "fgseg: 'spaceship, space ship' is one class with synonyms; for a class each: -p spaceship -p 'space ship'"
    )
    assert "'spaceship'" in error
    expected = shlex.join(["fgseg", "segment", str(photo), "-p", "spaceship, space ship", "-p", "red"])
    assert command == f"fgseg: for any words: {expected} --model fg-clip-base"
    assert size == "fgseg: this downloads 601 MB once; afterwards it works without a network, also with --offline"


def test_no_prompt_is_refused_by_every_command_that_needs_one(fgseg, photo):
    assert_refused(fgseg("segment", photo), "--prompt: expected at least one", "--classes FILE")
    assert_refused(fgseg("heatmap", photo), "--prompt: expected at least one")
    assert_refused(fgseg("rank", photo), "--prompt: expected at least one caption")
    assert_refused(fgseg("boxes", photo, "-b", "0,0,5,5"), "--prompt: expected at least one")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "0,0,nan,5", "0,0,inf,5", "9,0,5,5", "0,5,5,5", "-1,0,5,5"])
def test_a_wrong_box_is_refused(fgseg, photo, box):
    assert_refused(fgseg("boxes", photo, f"--box={box}", "-p", "red"), "--box: expected", repr(box))


def test_boxes_without_a_box_is_refused(fgseg, photo):
    assert_refused(fgseg("boxes", photo, "-p", "red"), "--box: expected at least one")


def test_boxes_take_no_windows(fgseg, photo):
    run = fgseg("boxes", photo, "-p", "red", "-b", "0,0,5,5", "--resolution", "slide")
    assert_refused(run, "use squash or keep")


def test_a_wrong_option_is_refused_before_a_missing_image_is_reported(fgseg):
    assert_refused(fgseg("segment", "missing.png", "-p", "red", "--resolution", "huge"), "resolution")


# --- models


def test_a_model_comes_from_the_environment_unless_one_is_given(fgseg, photo, tiny_model, monkeypatch):
    monkeypatch.setenv("FGSEG_MODEL", tiny_model)
    assert fgseg("segment", photo, "-p", "red", model=None).code == DONE
    assert run_json()["model"] == tiny_model
    monkeypatch.setenv("FGSEG_MODEL", "nosuch")
    assert fgseg("segment", photo, "-p", "red").code == DONE
    assert_refused(fgseg("segment", photo, "-p", "red", model=None), "model 'nosuch'")


def test_an_unknown_model_is_one_line_with_the_known_ones(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", model="nosuch"), "'nosuch'", "mini, fg-clip-base", "hub id")


def test_a_model_folder_without_weights_is_one_line(fgseg, photo, tiny_model):
    Path("empty").mkdir()
    assert_refused(
        fgseg("segment", photo, "-p", "red", model="empty"), "empty: expected a model folder with config.json"
    )
    Path("half").mkdir()
    Path("half/config.json").write_text("{}")
    assert_refused(fgseg("segment", photo, "-p", "red", model="half"), "half: expected weights in model.safetensors")
    Path("half/pytorch_model.bin").write_bytes(b"")
    assert_refused(fgseg("segment", photo, "-p", "red", model="half"), "pytorch_model.bin is a pickle")
    Path("half/model.safetensors").write_bytes(b"nothing")
    assert_refused(
        fgseg("segment", photo, "-p", "red", model="half"), "expected a safetensors file", "download it again"
    )


def test_a_hub_model_that_is_not_cached_is_one_line_when_offline(fgseg, photo, empty_cache):
    run = fgseg("segment", photo, "-p", "red", "--offline", model="fg-clip-base")
    assert_refused(run, "model qihoo360/fg-clip-base", "not in the cache, and offline mode is on", "'mini'")


def test_guides_on_the_command_line(fgseg, photo, empty_cache):
    run = fgseg("segment", photo, "-p", "red", "--recipe", "proxy", "--guide", "self", "-o", "guided")
    assert run.code == DONE
    made = run_json("guided/rgb")
    assert made["recipe"] == "proxy"
    assert made["guide"] | {"beta": 1.2, "gamma": 3.0, "name": "self"} == made["guide"]
    assert_refused(fgseg("segment", photo, "-p", "red", "--recipe", "proxy"), "recipe: 'proxy' needs a guide")
    assert_refused(fgseg("segment", photo, "-p", "red", "--guide", "dino"), "guide 'dino': expected one of dino-b8")
    offline = fgseg("segment", photo, "-p", "red", "--offline", "--guide", "dino-b16")
    assert_refused(offline, "guide facebook/dino-vitb16 at refs/pr/7: it is not in the cache", "use guide 'self'")


def test_an_unreachable_hub_is_one_line(fgseg, photo, empty_cache, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    run = fgseg("segment", photo, "-p", "red", model="fg-clip-base")
    assert_refused(run, "the hub is out of reach", "no route to host", "give a folder")


def test_models_lists_every_name(fgseg):
    run = fgseg("models")
    assert run.code == DONE
    (header, *rows), (guide_header, *guides) = (part.splitlines() for part in run.out.split("\n\n"))
    assert header.split() == ["model", "weights", "size", "licence", "about"]
    assert guide_header.split() == ["guide", "weights", "size", "licence", "about"]
    names = [row.split()[0] for row in rows]
    assert names == ["mini", "fg-clip-base", "fg-clip-large", "fg-clip2-base", "fg-clip2-large", "fg-clip2-so400m"]
    guide_names = [row.split()[0] for row in guides]
    assert guide_names[:2] == ["self", "dino-b8"]
    listed = json.loads(fgseg("models", "--json").out)
    assert [(entry["kind"], entry["name"]) for entry in listed] == [
        *(("model", name) for name in names),
        *(("guide", name) for name in guide_names),
    ]
    assert listed[0]["weights"] == "in the package"


def test_models_with_a_name_shows_its_card(fgseg, tiny_model):
    run = fgseg("models", "mini")
    assert run.code == DONE
    assert "FG-CLIP 1" in run.out
    groups = dict(line.split(maxsplit=1) for line in run.out.splitlines())
    assert ["checkered", "dotted", "plain"] == groups["patterns"].split(", ")[:3]
    assert "circle" in groups["shapes"].split(", ")
    assert "teal" in groups["colours"].split(", ")
    assert "wood" in groups["materials"].split(", ")
    card = json.loads(fgseg("models", tiny_model, "--json").out)
    assert card["family"] == "FG-CLIP 1"
    assert {"red", "circle"} <= set(card["words"])
    assert len(card["sha256"]) == 64


def test_the_card_of_an_unknown_model_is_one_line_and_exit_2(fgseg):
    assert_refused(fgseg("models", "nosuch"), "model 'nosuch'")


def test_doctor_reports_as_text_and_json(fgseg, tiny_model):
    run = fgseg("doctor", "--device", "cpu", "--dtype", "float32", "--model", tiny_model)
    assert (run.code, run.err) == (DONE, "")
    pairs = dict(line.split("  ", 1) for line in run.out.splitlines())
    assert pairs["fgseg"].strip() == __version__
    assert pairs["dtype"].strip() == "float32"
    assert pairs["problems"].strip() == "-"
    report = json.loads(fgseg("doctor", "--device", "cpu", "--model", tiny_model, "--json").out)
    assert report["device"].startswith("cpu")
    assert report["problems"] == []


def test_doctor_lists_one_problem_per_line_and_exits_with_1(fgseg):
    run = fgseg("doctor", "--device", "cuda:97", "--model", "nosuch")
    assert (run.code, run.err) == (FAILED, "")
    first, second = run.out.splitlines()[-2:]
    assert first.startswith("problems")
    assert "device: 'cuda:97' is not on this machine" in first
    assert second.strip().startswith("model 'nosuch'")
    assert len(json.loads(fgseg("doctor", "--device", "cuda:97", "--model", "nosuch", "--json").out)["problems"]) == 2


# --- stdout, stderr, -q and -v


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr pass for a terminal, where a progress bar is shown."""
    return lambda: monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_progress_goes_to_stderr_and_data_to_stdout(fgseg, photo, tmp_path, terminal):
    other = odd_images.gray_png(tmp_path)
    terminal()
    run = fgseg("segment", photo, other, "-p", "red", "--json")
    assert "2/2" in run.err
    assert len(run.records) == 2


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_shows_no_progress(fgseg, photo, tmp_path, terminal, flag):
    other = odd_images.gray_png(tmp_path)
    terminal()
    run = fgseg("segment", photo, other, "-p", "red", flag)
    assert (run.code, run.out, run.err, run.closing) == (DONE, "", "", "")


def test_quiet_with_json_prints_the_records_alone(fgseg, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("left out, about which a warning is due")
    run = fgseg("segment", ".", "-p", "red, dark red", "-q", "--json", "--skip-existing")
    assert (run.code, run.err, run.closing) == (DONE, "", "")
    assert [record["image"] for record in run.records] == ["rgb.png"]


def test_quiet_still_reports_failures(fgseg, photo, terminal):
    terminal()
    run = fgseg("segment", photo, "missing.png", "-p", "red", "-q")
    assert (run.code, len(run.complaints)) == (SOME_FAILED, 2)


def test_one_image_and_no_terminal_show_no_progress(fgseg, photo, tmp_path, terminal, monkeypatch):
    monkeypatch.setattr("fgseg.commands.terminal.status._QUICK", 60.0)  # no step of a busy machine is slow
    other = odd_images.gray_png(tmp_path)
    assert fgseg("segment", photo, other, "-p", "red").err == ""
    terminal()
    assert fgseg("segment", photo, "-p", "red").err == ""


def test_verbose_logs_the_model_and_device_to_stderr_each_time(fgseg, photo, tiny_model):
    for _ in range(2):
        run = fgseg("segment", photo, "-p", "red", "-v", "--json", "--device", "cpu")
        model, seconds = run.complaints
        assert model == f"fgseg: model {tiny_model} on cpu in torch.float32"
        stages = re.fullmatch(r"fgseg: seconds: (\w+ [\d.]+ s, )+other [\d.]+ s", seconds)[0]
        assert re.findall(r"(\w+) [\d.]+ s", stages) == [
            "imports",
            "load",
            "words",
            "encode",
            "masks",
            "files",
            "other",
        ]
        assert len(run.records) == 1
    assert fgseg("segment", photo, "-p", "red").err == ""


def explode(*_, **__):
    raise RuntimeError("a\nbroken part")


def test_an_unexpected_error_is_one_line_and_exit_1(fgseg, photo, monkeypatch):
    monkeypatch.setattr("fgseg.segmenter.load", explode)
    run = fgseg("segment", photo, "-p", "red")
    assert (run.code, run.out) == (FAILED, "")
    assert run.err == "fgseg: failed: RuntimeError: a broken part (run it again with -v for the traceback)\n"


def test_verbose_shows_where_an_unexpected_error_came_from(fgseg, photo, monkeypatch):
    monkeypatch.setattr("fgseg.segmenter.load", explode)
    run = fgseg("segment", photo, "-p", "red", "-v")
    assert run.code == FAILED
    assert "Traceback" in run.err
    assert run.complaints[-1] == "fgseg: failed: RuntimeError: a broken part"


def test_ctrl_c_in_a_command_is_one_line_and_exit_130(fgseg, photo, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fgseg.segmenter.Segmenter.segment", interrupt)
    run = fgseg("segment", photo, "-p", "red")
    assert run == Run(INTERRUPTED, "", "fgseg: interrupted\n")


@pytest.mark.parametrize(("extra", "wanted"), [([], "\\xe9.png"), (["--json"], '"\\u00e9.png"')])
def test_characters_that_the_terminal_cannot_show_are_escaped(fgseg, tmp_path, monkeypatch, extra, wanted):
    write_image(tmp_path / "a.png", odd_images.PICTURE)
    (tmp_path / "a.png").rename(tmp_path / "é.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1251"))
    run = fgseg("rank", "é.png", "-p", "red", *extra)
    assert (run.code, run.err) == (DONE, "")
    assert wanted in written.getvalue().decode("cp1251")


# --- signals and pipes, in processes of their own


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}


def process_of(*words, stdout=subprocess.PIPE, **options):
    """`fgseg` in a process of its own."""
    command = [sys.executable, "-m", "fgseg", *map(str, words)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_ctrl_c_during_the_images_is_one_line_and_exit_130(photo, tmp_path, tiny_model):
    os.mkfifo(tmp_path / "never.png")  # reading it blocks: the command is surely running when the signal comes
    words = ("segment", photo, tmp_path / "never.png", "-p", "red", "--json", "--model", tiny_model)
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell lets its background jobs ignore it
    with process_of(*words, "-o", tmp_path / "out", preexec_fn=heard) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert json.loads(first)["image"] == str(photo)
    assert (process.returncode, rest, err) == (INTERRUPTED, "", "fgseg: interrupted\n")


def test_ctrl_c_during_the_imports_is_one_line():
    script = (
        "import runpy, sys\nclass Hit:\n    def find_spec(name, *_):\n"
        "        if name == 'fgseg.commands.main':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Hit)\nrunpy.run_module('fgseg', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "fgseg: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_closes_stdout_early_is_no_error(photo):
    reading, writing = os.pipe()
    os.close(reading)
    with process_of("--version", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (DONE, "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take UTF-8 names alone")
def test_a_file_name_that_is_not_valid_text_works_and_its_json_parses(tmp_path, tiny_model):
    odd = os.fsdecode(b"caf\xe9.png")
    Path(tmp_path, odd).write_bytes(odd_images.rgb_png(tmp_path).read_bytes())
    with process_of("segment", odd, "-p", "red", "--json", "--model", tiny_model, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, len(err.splitlines())) == (DONE, 1)
    assert json.loads(out)["image"] == odd
    run = json.loads(Path(tmp_path, "fgseg-out", odd.removesuffix(".png"), "run.json").read_text(encoding="utf-8"))
    assert run["image"] == odd


def test_help_imports_no_heavy_package():
    script = (
        "import sys\nfrom fgseg.commands.main import main\n"
        "try:\n    main(['segment', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Usage: fgseg segment" in done.stdout
    assert not set(done.stderr.split()) & {"torch", "numpy", "cv2", "PIL", "matplotlib", "transformers", "tqdm"}


def test_offline_is_told_to_the_libraries_that_fetch():
    code = (
        "import os, fgseg.commands.main as commands\n"
        "commands.main = lambda: print(os.environ.get('HF_HUB_OFFLINE'))\n"
        "from fgseg.__main__ import main\nmain()"
    )
    environ = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    for words, expected in ((["--offline"], "1"), ([], "None")):
        run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environ)
        assert run.stdout.strip() == expected, run.stderr
