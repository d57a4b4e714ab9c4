"""The page of figures is generated from the files of figures, whatever they hold."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def script(name):
    """A script of `benchmarks` as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def readme():
    return script("readme")


def test_the_page_is_that_of_the_results(readme):
    made = readme.page(ROOT / "benchmarks" / "results")
    assert (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") == made, "run python benchmarks/readme.py"


def test_the_default_threshold_is_what_its_rule_chose_and_holds_on_scenes_that_no_choice_has_seen():
    import fgseg

    document = json.loads((ROOT / "benchmarks" / "results" / "scenes.json").read_text(encoding="utf-8"))
    encoder = fgseg.load("mini").encoder
    assert document["settings"]["weights_sha256"] == encoder.digest()
    assert document["chosen_threshold"] == document["settings"]["threshold"] == encoder.default_threshold
    assert document["alone"]["absent_alone_high"] < 0.01
    assert document["seen"]["absent_share"] < 0.01


def test_a_run_a_sweep_and_peers_are_shown_with_their_figures(readme, tmp_path):
    cell = {"value": 0.5, "interval": [0.4, 0.6]}
    model = {"name": "mini", "weights_sha256": "a" * 64, "recipe": "value", "dtype": "float32", "device": "cpu x"}
    data = {"name": "pets", "images": 3, "full_size": 9, "list_sha256": "b" * 64}
    common = {"model": model, "data": data, "n_images": 3, "n_failed": 1, "timing": {"seconds": 2.5}}
    settings = {"preset": "sclip", "decision": "protocol", "logit_scale": 40.0, "prompts": "present", "refine": "none"}
    run = {"kind": "segmentation", **common, "settings": settings, "table": {"model": {"miou": cell}}}
    one = {"recipe": "kk", "resolution": "keep", "refine": "none", "logit_scale": 40.0, "threshold": 0.25}
    row = {**one, "miou": 0.5, "interval": [0.4, 0.6], "aacc": 0.7}
    sweep = {
        "kind": "sweep",
        **common,
        "settings": {},
        "sweep": [row],
        "chosen": {**row, "on": {"name": "pets", "images": 3}},
    }
    factor = {"data": "pets", "images": 3, "classes": 2, "factor": "refine", "chosen": "none", "default": "none"}
    tried = [
        {"value": "none", "miou": 0.5, "interval": [0.4, 0.6], "aacc": 0.7},
        {"value": "guided", "miou": 0.475, "interval": [0.41, 0.52], "aacc": 0.6},
        {"value": "pamr", "miou": 0.25, "interval": [0.2, 0.3], "aacc": 0.6},
    ]
    quality = [{**factor, "rows": tried, "default": default} for default in ("none", "guided", "pamr")]
    speed = [
        {"weights": "w", "who": "x", "seconds": 0.25, "quartiles": [0.2, 0.3], "times_fgseg": 2.0, "same_labels": 1.0}
    ]
    rule = "the lowest that serves"
    quality.append({**quality[0], "factor": "threshold", "chosen": 0.3, "default": 0.65})
    quality[-1]["rows"] = [{**tried[0], "value": 0.3}, {**tried[1], "value": 0.65}]
    peers = {"kind": "peers", "model": model, "speed": speed, "quality": quality}
    for name, document in {
        "run": run,
        "sweep": sweep,
        "peers": peers,
        "scenes": {"threshold_rule": rule},
        "other": {"a": {"b|c": 1.25}, "d": [{"e": 2}]},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    page = readme.page(tmp_path)
    for expected in (
        "## mini on pets\n", "| mini | 50.0 [40.0, 60.0] |",
        "3 images, 1 failed; 3 of 9 images; recipe value",
        "preset sclip; decision protocol; logit scale 40; only classes present",
        "weights aaaaaaaaaaaa, data bbbbbbbbbbbb",
        "## mini on pets, sweep", "Chosen by mIoU on 3 images of pets: recipe kk, resolution keep",
        "| w | x | 0.25 | 0.2, 0.3 | 2 | 1 |",
        "pets (3 images, 2 classes): refine, best none; the default, none, is as good",
        "best none; the default, guided, is 2.5 points below, within its interval",
        "best none; the default, pamr, is 25.0 points below, beyond its interval",
        "best 0.3; the default, 0.65, is 2.5 points below",
        "chosen by another rule than mIoU, on other scenes: the lowest that serves (scenes.json).",
        "| b\\|c | 1.25 |", "| e |", "[other.json](results/other.json)",
    ):  # fmt: skip
        assert expected in page


def test_the_peers_label_images_as_fgseg_does(tiny_model):
    peers = script("peers")
    import fgseg
    from fgseg.encoders import load_encoder

    seg = fgseg.Segmenter(load_encoder(tiny_model, device="cpu", dtype="float32"))
    image = np.random.RandomState(2).randint(0, 256, (40, 56, 3)).astype(np.uint8)
    theirs = peers.transformers_clip(seg.encoder.checkpoint.folder)
    pairs = (
        (peers.quick_start(theirs, peers.padded_words(seg), seg.encoder.side), "squash"),
        (peers.one_window_at_a_time(seg), "slide"),
    )
    for run, resolution in pairs:
        ours = peers.with_fgseg(seg, resolution, texts="kept")(image)
        assert (run(image) == ours).mean() > 0.99  # float32 of another order of sums
