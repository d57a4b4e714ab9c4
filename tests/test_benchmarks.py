"""The benchmark scripts, and the page that is generated from their results."""

import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

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


def test_the_page_is_generated_from_the_results(readme):
    made = readme.page(ROOT / "benchmarks" / "results")
    assert (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") == made, "run python benchmarks/readme.py"


def test_the_default_threshold_is_chosen_by_its_rule_and_holds_on_other_scenes():
    import fgseg

    document = json.loads((ROOT / "benchmarks" / "results" / "scenes.json").read_text(encoding="utf-8"))
    seg = fgseg.load("mini")
    assert document["settings"]["weights_sha256"] == seg.encoder.digest()
    assert document["chosen_threshold"] == document["settings"]["threshold"] == seg.defaults.threshold
    assert document["alone"]["absent_alone_mean"] < 0.01
    assert document["seen"]["absent_share"] < 0.01


def test_the_page_shows_the_figures_of_a_run_a_sweep_and_peers(readme, tmp_path):
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
        "best none; the default, guided, is 2.5 points below\n",
        "best none; the default, pamr, is 25.0 points below\n",
        "best 0.3; the default, 0.65, is 2.5 points below",
        "not chosen by mIoU, but by a rule on other scenes: the lowest that serves (scenes.json).",
        "| b\\|c | 1.25 |", "| e |", "[other.json](results/other.json)",
    ):  # fmt: skip
        assert expected in page


def test_processor_time_includes_child_processes():
    timing = script("timing")
    work = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    times = timing.take_turns({"child": lambda: subprocess.run(work, check=True)}, repeats=2)
    assert min(times["child"]["processor"]) > 0.28  # the time of child processes has a resolution of 10 ms


@pytest.fixture
def choices(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return script("choices")


@pytest.mark.parametrize("choice", ["weights", "gelu", "attention"])
def test_both_ways_of_each_choice_compute_the_same(choice, choices):
    with torch.inference_mode():
        both = choices.CHOICES[choice](1, "float32")
        torch.testing.assert_close(both["plain"](), both["ours"](), atol=2e-5, rtol=1e-5)


def test_attention_by_two_products_equals_the_fused_kernel_and_scores_have_the_given_spread(choices):
    q, k, v = choices.heads(2, spread_of_scores=4, dtype="float32")
    assert float((q @ k.mT / 8).std()) == pytest.approx(4, rel=0.05)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(choices.written_out(q, k, v, at_once=7), expected, atol=2e-5, rtol=1e-5)


def test_steps_count_operations_and_waits_count_values_read_by_the_host():
    timing = script("timing")
    x = torch.ones(3)
    with timing.Steps() as counted:
        total = (x.view(3, 1) + 1).sum()
        x.nonzero()
        assert total.item() == 6
    assert (counted.steps, counted.waits) == (
        4,
        2,
    )  # the steps are add, sum, nonzero and the read; a view is not a step


def test_a_prefix_that_texts_share_is_counted_once(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    speed = script("speed")
    encoder = SimpleNamespace(
        tokenizer=SimpleNamespace(encode=lambda texts: [[1, 2, 9], [1, 3, 9]]),
        model=SimpleNamespace(config=SimpleNamespace(text=SimpleNamespace(width=2, layers=3))),
    )
    # 1; 1 2 and 1 3; 1 2 9 and 1 3 9: five products of 24 * 2^2, and 4 * 2 for each token that is attended
    assert speed.text_operations(encoder, ["a", "b"]) == 3 * (5 * 96 + 8 * (1 + 2 + 2 + 3 + 3))


def test_the_peak_memory_of_a_large_image_excludes_that_of_the_parent_process(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # Python does this for a script
    large = script("large")
    (tmp_path / "labels.tif").write_bytes(b"0123456789")
    result = SimpleNamespace(
        settings={"windows": 1, "dtype": "float32"},
        parts=2,
        labels_path=tmp_path / "labels.tif",
        save=lambda path: None,
    )
    seg = SimpleNamespace(prepare=lambda prompts: None, segment_large=lambda *given, **options: result)
    monkeypatch.setattr(large.fgseg, "load", lambda *given, **options: seg)
    # On Linux a process inherits ru_maxrss from its parent, here a parent of a terabyte.
    usage = SimpleNamespace(ru_maxrss=10**9)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    row = large.measure(tmp_path / "a.tif", dtype="auto", reduction=1)
    assert 0 < row["loaded_gb"] < 100
    assert 0 <= row["peak_above_model_gb"] < 100


def test_a_default_with_a_lower_figure_is_called_worse_even_if_intervals_overlap(readme):
    rows = [
        {"value": "none", "miou": 0.5, "interval": [0.4, 0.6]},
        {"value": "guided", "miou": 0.52, "interval": [0.42, 0.62]},  # 0.02 more on each image
    ]
    part = {"rows": rows, "default": "none", "chosen": "guided"}
    assert readme.default_of(part) == "the default, none, is 2.0 points below"


LONG = "a sentence of more than sixty letters, which says in full what was measured and how it was"


def section_of(readme, folder, document):
    """The section of the page for a file of an unknown kind."""
    (folder / "other.json").write_text(json.dumps(document))
    return readme.page(folder).split("## other\n")[1]


def test_the_page_shows_texts_whole_and_the_first_letters_of_hashes(readme, tmp_path):
    part = {"what": LONG, "weights_sha256": "0123456789abcdef" * 4, "names": [LONG, LONG]}
    made = section_of(readme, tmp_path, {"about": LONG, "part": part})
    for row in (f"| about | {LONG} |", f"| what | {LONG} |", f"| names | {LONG}, {LONG} |"):
        assert row in made
    assert "| weights_sha256 | 0123456789ab... |" in made


def test_the_page_shows_the_numbers_of_nested_objects(readme, tmp_path):
    spread = {"median": 2.61, "q1": 2.5, "q3": 2.75, "turns": 15, "of_processor_time": 2.4}
    row = {
        "machine": {"cores": 2, "flags": ["avx2", "amx"]},
        "figures": {
            "fast": {"times": spread, "limit": {"seconds": 0.25}},
            "slow": {"times": spread, "verdict": "short"},
        },
        "of_images": [{"name": "a"}] * 300,
        "none_failed": [],
    }
    made = section_of(readme, tmp_path, {"first": row, "share": 0.5, "images": [{"name": "a"}] * 300})
    for expected in (
        "| share | 0.5 |",
        "### first\n",
        "| machine.cores | 2 |",
        "| none_failed | none |",
        "\nfigures\n",
        "|  | times | times.of_processor_time | limit.seconds | verdict |",
        "| fast | 2.61 (2.5 to 2.75, 15 turns) | 2.4 | 0.25 | - |",
        "| slow | 2.61 (2.5 to 2.75, 15 turns) | 2.4 | - | short |",
        "\nof_images\n\n300 entries\n",
        "### images\n\n300 entries\n",
    ):
        assert expected in made
    assert "{" not in made
    assert "avx2" not in made
    assert len(made.splitlines()) < 40


def test_the_page_shows_entries_that_all_parts_share_once(readme, tmp_path):
    machine = {"machine": {"cores": 2}, "seed": 731}
    made = section_of(readme, tmp_path, {"one": {**machine, "load": 1.5}, "two": {**machine, "load": 2.5}})
    for row in ("| machine.cores | 2 |", "| seed | 731 |", "| load | 1.5 |", "| load | 2.5 |"):
        assert made.count(row) == 1


def test_every_figure_of_speed_is_in_the_tables_of_the_page(readme):
    page = readme.page(ROOT / "benchmarks" / "results")
    document = json.loads((ROOT / "benchmarks" / "results" / "speed.json").read_text(encoding="utf-8"))
    made = page.split("\n## speed\n")[1].split("\n## ")[0]
    for name, row in document.items():
        assert f"\n### {name}\n" in made
        assert f"| what | {row['what']} |" in made
        for figure in row["figures"].values():
            for value in figure.values():
                assert readme.shown(value["median"] if isinstance(value, dict) else value) in made


def test_the_peers_and_fgseg_give_the_same_labels(tiny_model, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    peers = script("peers")
    import fgseg
    from fgseg.encoders.loading import load_encoder

    def unit(rows):
        return rows / rows.norm(dim=-1, keepdim=True)

    seg = fgseg.Segmenter(load_encoder(tiny_model, device="cpu", dtype="float32"))
    image = np.random.RandomState(2).randint(0, 256, (40, 56, 3)).astype(np.uint8)
    theirs = peers.QuickStart(seg.encoder.checkpoint.folder)
    pairs = (
        (lambda image: theirs.label_map(image, peers.PROMPTS), "squash"),
        (peers.window_by_window(theirs), "slide"),
    )
    for run, resolution in pairs:
        ours = peers.with_fgseg(seg, resolution, texts="kept")(image)
        assert (run(image) == ours).mean() > 0.99  # float32 sums in another order
    square = np.random.RandomState(3).randint(0, 256, (seg.encoder.side, seg.encoder.side, 3)).astype(np.uint8)
    (ours,) = seg.encoder.encode_images([square], fit="exact")
    np.testing.assert_allclose(theirs.dense(Image.fromarray(square)), unit(ours.grid), atol=1e-5)
    np.testing.assert_allclose(theirs.texts(peers.PROMPTS), unit(seg.encoder.encode_texts(peers.PROMPTS)), atol=1e-5)


@pytest.mark.parametrize("held_out", [False, True])
def test_baselines_are_measured_on_the_same_phrases_as_the_figure(held_out, monkeypatch):
    scenes, measured = script("scenes"), []
    monkeypatch.setattr(
        scenes, "region_ious", lambda _labels, _truth, which: measured.append(list(which)) or [1.0] * len(which)
    )
    seg = SimpleNamespace(segment=lambda image, *_, **__: SimpleNamespace(labels=np.zeros(image.shape[:2], int)))
    scenes.measure(seg, count=6, side=64, resolution="auto", held_out=held_out)
    assert measured[0::3] == measured[1::3] == measured[2::3]
    most = max(len(which) for which in measured)
    assert most == 1 if held_out else most > 1


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_command_that_is_repeated_after_kill_9_gives_the_files_of_an_undisturbed_run(tmp_path):
    out = tmp_path / "kills.json"
    command = [sys.executable, "benchmarks/kill_runs.py", "--kills", "2", "--disks", "0", "--kinds", "cache"]
    run = subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=False, capture_output=True, timeout=600)
    assert out.exists(), run.stderr
    told = json.loads(out.read_text(encoding="utf-8"))["cache"]["killed"]
    assert (told["kills"], told["faults"], told["temporary_files_left"]) == (2, [], 0)


@pytest.fixture
def gpu(monkeypatch):
    """The modules of gpu.py by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def gpu_session(gpu, tmp_path):
    """A dry run on the CPU with a minute left."""
    return gpu("gpu_session").Session(torch.device("cpu"), tmp_path / "gpu.json", time.monotonic() + 60, True, False)


def test_a_run_on_a_gpu_writes_each_part_and_goes_on_after_one_that_fails(gpu_session):
    gpu_session.part("equal", "one", lambda: {"difference": 0.5})
    gpu_session.part("equal", "two", lambda: {"difference": 1 / 0})
    gpu_session.ends = time.monotonic() - 1
    gpu_session.part("files", "three", lambda: {"difference": 0.5})
    written = json.loads(gpu_session.out.read_text(encoding="utf-8"))
    assert written["equal"]["one"]["difference"] == 0.5
    assert written["equal"]["two"]["error"] == "ZeroDivisionError: division by zero"
    assert written["files"]["three"] == {"skipped": "-1 s were left"}


def test_no_part_of_a_run_on_a_gpu_starts_without_the_seconds_that_it_needs(gpu_session):
    gpu_session.tiny = False
    gpu_session.part("files", "long", lambda: {}, seconds=90)
    assert "skipped" in gpu_session.found["files"]["long"]


def test_a_candidate_that_fails_takes_no_turn(gpu_session):
    times = gpu_session.turns({"good": lambda: 1, "bad": lambda: 1 / 0})
    assert list(times) == ["good"]


def test_differences_of_a_gpu_are_judged_by_values_and_by_labels(gpu):
    equal = gpu("gpu_equal")
    labels, cosines = np.int32([0, 1, 2, 2]), np.float32([0.5, 0.25, 0, 1])
    other = {"labels": np.int32([0, 1, 2, 1]), "cosines": cosines + np.float32([0, 0, 0.5, 0])}
    told = equal.differences({"labels": labels, "cosines": cosines}, other)
    assert told == {"equal labels": 0.75, "cosines": 0.5}
    assert equal.judged({"equal labels": 1.0, "cosines": 1e-6})["verdict"] == "pass"
    assert equal.judged({"equal labels": 0.99, "cosines": 1e-6})["verdict"] == "short"
    assert equal.judged({"equal labels": 1.0, "cosines": 1e-4})["verdict"] == "short"
    assert equal.judged({"cosines": float("nan")})["verdict"] == "short"
    assert equal.judged({"presence": 1e-4}, {"presence": 2e-4})["verdict"] == "pass"


def test_every_way_to_a_label_map_on_a_gpu_gives_the_same_labels(gpu):
    maps, scores = gpu("gpu_maps"), torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(2))
    ways = maps.ways(scores, (20, 30), compiled=False)
    expected = ways["fgseg"]()[0]
    assert all(torch.equal(way()[0], expected) for way in ways.values())
    assert torch.equal(maps.whole(scores, *maps.axes(scores, (20, 30)))[0], expected)


def test_every_way_from_images_to_labels_on_a_gpu_gives_the_same_labels(gpu, gpu_session, tiny_model):
    flows = gpu("gpu_flow")
    import fgseg

    words = ["red", "green", "blue"]
    flow = flows.Flow(gpu_session, fgseg.load(tiny_model, device="cpu", dtype="float32"), words)
    images, encode = flows.pictures(gpu_session, 3), flow.seg.encoder.model.dense_features
    expected = np.stack(flow.views(images, "pillow"))
    np.testing.assert_array_equal(flow.segment(images, min_area=0, max_hole=0), expected)
    for resizing in ("threads", "device"):
        np.testing.assert_array_equal(flow.views(images, resizing), expected)
        assert (flow.together(images, resizing, encode) == expected).mean() > 0.999  # sums in another order
    flow.streamed(images, "device", encode)
    flow.ahead(images, encode)
