"""`fgseg bench` on the command line: tables on stdout, messages on stderr, files and exit status."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from command_runs import DONE, SOME_FAILED, USAGE
from evaluation_data import color_folder, picture, write_json
from PIL import Image

SMALL = ("--resolution", "squash:32", "--no-pictures")


@pytest.fixture
def bench(fgseg):
    return lambda *words: fgseg("bench", *words)


def test_the_four_sets_of_scenes_are_measured_if_no_data_is_given(bench, tmp_path):
    run = bench("--scenes", 2, "--side", 32, *SMALL)
    assert run.code == DONE
    for name in ("scenes-colors", "scenes-materials", "scenes-patterns", "scenes-shapes"):
        document = json.loads((tmp_path / "fgseg-bench" / name / "run.json").read_text())
        assert (document["kind"], document["n_images"]) == ("segmentation", 2)
        assert f"{name}: 2 images" in run.err
    lines = run.out.splitlines()
    assert lines[0].split()[0] == "data"
    assert sum("most frequent class" in line for line in lines) == 4
    assert sum("all background" in line for line in lines) == 1


def test_a_folder_is_measured_and_a_second_run_starts_from_its_rows(bench, tmp_path):
    folder = color_folder(tmp_path / "colors")
    first = bench("--data", folder, *SMALL, "--json")
    again = bench("--data", folder, *SMALL, "--json")
    assert (first.code, again.code) == (DONE, DONE)
    documents = [json.loads(run.out) for run in (first, again)]
    timings = [document.pop("timing") for document in documents]
    assert documents[0] == documents[1]
    assert [timing["images_of_earlier_runs"] for timing in timings] == [0, 3]
    changed = bench("--data", folder, *SMALL, "--logit-scale", 9)
    assert changed.code == USAGE
    assert "settings.logit_scale was" in changed.err
    assert bench("--data", folder, *SMALL, "--logit-scale", 9, "--fresh").code == DONE


def test_an_error_names_rows_that_cannot_be_removed(bench, tmp_path):
    (tmp_path / "fgseg-bench" / "scenes-colors" / "rows.jsonl").mkdir(parents=True)
    run = bench("--data", "scenes-colors", "--scenes", 1, "--side", 32, "--fresh")
    assert run.code == USAGE
    assert "rows.jsonl: cannot be removed" in run.err


def test_pictures_are_written_unless_declined(bench, tmp_path):
    run = bench("--data", color_folder(tmp_path / "colors"), "--resolution", "squash:32", "-o", "out")
    assert run.code == DONE
    assert {path.name for path in (tmp_path / "out" / "colors").iterdir()} == {
        "rows.jsonl", "run.json", "classes.csv", "figure.png", "report.html",
    }  # fmt: skip


def test_faults_are_named_before_a_model_is_loaded_and_the_other_images_can_be_measured(bench, tmp_path):
    folder = color_folder(tmp_path / "colors", count=8)
    for index in range(7):
        (folder / "labels" / f"{index}.png").unlink()
    run = bench("--data", folder, *SMALL, "--recipe", "value")
    assert run.code == USAGE
    assert run.err.count("error: ") == 5
    assert "and 2 more" in run.err
    assert "nothing was measured" in run.err
    assert not (tmp_path / "fgseg-bench").exists()
    going = bench("--data", folder, *SMALL, "--keep-going", "--json")
    assert going.code == SOME_FAILED
    document = json.loads(going.out)
    assert (document["n_images"], document["n_failed"], len(document["failed"])) == (1, 7, 7)


def test_classes_that_the_model_has_no_words_for_are_left_out_with_a_warning(bench, tmp_path):
    folder = color_folder(tmp_path / "pets", classes=("red", "zeppelin", "blue"))
    run = bench("--data", folder, *SMALL, "--json")
    assert run.code == DONE
    assert " has words for 2 of 3 classes; measured on those alone" in run.err
    data = json.loads(run.out)["data"]
    assert [entry[0] for entry in data["classes"]] == ["red", "blue"]
    assert data["classes_left_out"] == ["zeppelin"]
    named = bench("--data", folder, *SMALL, "--only", "blue,red", "--json", "--fresh")
    assert json.loads(named.out)["data"] == data
    assert "warning" not in named.err
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\n")
    other = bench("--data", folder, *SMALL, "--classes", "words.txt", "--fresh", "--json")
    assert json.loads(other.out)["data"]["classes"][1] == ["green", "green"]
    assert "warning" not in other.err


def test_all_classes_can_be_required_and_the_error_says_what_to_do(bench, tmp_path):
    folder = color_folder(tmp_path / "pets", classes=("red", "zeppelin", "blue"))
    run = bench("--data", folder, *SMALL, "--only", "all")
    assert run.code == USAGE
    assert "words of 1 of 3 classes; it has words for 2 (red, blue): leave out --only all to measure those" in run.err
    nothing = bench("--data", color_folder(tmp_path / "none", classes=("cat", "zeppelin", "dog")), *SMALL)
    assert nothing.code == USAGE
    assert "has words for none of its classes; --classes FILE gives other words" in nothing.err
    whole = bench("--data", color_folder(tmp_path / "known", classes=("red", "blue", "green")), *SMALL, "--only", "all")
    assert whole.code == DONE


def test_a_sweep_prints_every_setting_and_the_best(bench, tmp_path):
    run = bench(
        "--sweep", "--data", "scenes-shapes", "--scenes", 2, "--side", 32, "--threshold", "0,0.1", "--refine",
        "none,guided", "--resolution", "squash:32", "--recipe", "value,kk",
    )  # fmt: skip
    assert run.code == DONE
    lines = run.out.splitlines()
    assert len(lines) == 1 + 8 + 1
    assert lines[-1].startswith("chosen on 2 images of scenes-shapes: recipe ")
    document = json.loads((tmp_path / "fgseg-bench" / "scenes-shapes" / "run.json").read_text())
    assert document["kind"] == "sweep"
    assert document["chosen"]["on"]["images"] == 2


def test_a_sweep_tries_propagation_and_regions(bench, tmp_path):
    run = bench(
        "--sweep", "--data", "scenes-shapes", "--scenes", 1, "--side", 32, "--propagate", "none,both", "--regions",
        "none,superpixels", "--vote", *SMALL, "--json",
    )  # fmt: skip
    assert run.code == DONE
    rows = json.loads(run.out)["sweep"]
    assert [(row["propagate"], row["region_map"]) for row in rows] == [
        ("none", "none"), ("none", "superpixels"), ("both", "none"), ("both", "superpixels"),
    ]  # fmt: skip


def test_one_run_propagates_and_votes(bench, tmp_path):
    options = ("--data", "scenes-shapes", "--scenes", 1, "--side", 32, *SMALL, "--json")
    run = bench("--propagate", "pixels", "--regions", "superpixels", "--vote", *options)
    settings = json.loads(run.out)["settings"]
    assert {name: settings[name] for name in ("propagate", "region_map", "vote")} == {
        "propagate": "pixels", "region_map": "superpixels", "vote": True,
    }  # fmt: skip


def test_boxes_that_are_skipped_are_counted_by_their_reasons(bench, tmp_path):
    picture(tmp_path / "images" / "a.png")
    row = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}
    changes = [{}, {"iscrowd": 1}, {"bbox": [90, 2, 9, 9]}, {"id": 4, "bbox": None}]
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [row | change for change in changes],
    }
    write_json(tmp_path / "boxes.json", document)
    run = bench("--task", "boxes", "--data", "boxes.json")
    assert (run.code, "annotation 4 of image 'a.png': expected a bbox of four numbers" in run.err) == (USAGE, True)
    going = bench("--task", "boxes", "--data", "boxes.json", "--keep-going")
    assert going.code == DONE
    assert "boxes: 3 boxes skipped (crowds 1, faults 1, no area in the image 1)" in going.err


def test_boxes_and_captions_are_measured_from_their_files(bench, tmp_path):
    picture(tmp_path / "images" / "a.png")
    row = {"id": "a", "difficulty": "hard", "bbox_xywh": [1, 2, 9, 9], "positive": ["red"], "negatives": ["blue"]}
    write_json("fgovd.json", {"rows": [row]})
    boxes = bench("--task", "boxes", "--data", "fgovd.json")
    assert boxes.code == DONE
    assert boxes.out.splitlines()[0].split() == ["data", "hard"]
    images, texts = [{"id": 1, "file_name": "a.png"}], [{"image_id": 1, "caption": "a red circle"}]
    write_json("captions.json", {"images": images, "annotations": texts})
    captions = bench("--task", "retrieval", "--data", "captions.json", "--route", "long")
    assert captions.code == DONE
    assert "image to text @10" in captions.out


@pytest.mark.parametrize(
    "words", [["--threshold", "0.3"], ["--preset", "sclip"], ["--sweep"], ["--only", "red"], ["--words", "names"]]
)
@pytest.mark.parametrize("task", ["boxes", "retrieval"])
def test_an_option_that_a_task_does_not_take_is_refused(bench, tmp_path, task, words):
    picture(tmp_path / "images" / "a.png")
    row = {"id": "a", "difficulty": "hard", "bbox_xywh": [1, 2, 9, 9], "positive": ["red"], "negatives": ["blue"]}
    images, texts = [{"id": 1, "file_name": "a.png"}], [{"image_id": 1, "caption": "a red circle"}]
    write_json("boxes.json", {"rows": [row]})
    write_json("retrieval.json", {"images": images, "annotations": texts})
    run = bench("--task", task, "--data", f"{task}.json", *words)
    assert run.code == USAGE
    assert re.search(rf"{words[0].removeprefix('--')}: {task} takes? only .*; leave it out", run.err)


def test_a_folder_named_like_a_set_of_scenes_is_checked_before_a_model_is_loaded(bench, tmp_path):
    color_folder(tmp_path / "scenes-shapes")
    (tmp_path / "scenes-shapes" / "labels" / "0.png").unlink()
    run = bench("--data", "./scenes-shapes")
    assert run.code == USAGE
    assert "nothing was measured" in run.err


def test_rows_are_refused_if_the_meaning_of_the_labels_changed(bench, tmp_path):
    folder = color_folder(tmp_path / "pets", classes=("red", "green", "blue"))
    (folder / "classes.txt").unlink()
    listed = [{"id": index, "name": name} for index, name in enumerate(("red", "green", "blue"))]
    items = [{"id": str(index)} for index in range(3)]
    write_json(folder / "dataset.json", {"name": "pets", "classes": listed, "items": items, "ignore_index": 255})
    assert bench("--data", "pets", "--no-pictures").code == DONE
    listed[0]["id"], listed[1]["id"] = 1, 0
    write_json(folder / "dataset.json", {"name": "pets", "classes": listed, "items": items, "ignore_index": 255})
    again = bench("--data", "pets", "--no-pictures")
    assert again.code != DONE
    assert "--fresh" in again.err
    assert bench("--data", "pets", "--no-pictures", "--fresh").code == DONE


def test_the_error_for_an_unknown_background_word_says_that_it_is_one(bench, tmp_path):
    color_folder(tmp_path / "pets", classes=("background", "green", "blue"))
    run = bench("--data", "pets", "--background", "giraffe", "--only", "all")
    assert run.code == USAGE
    assert "pets: background: " in run.err
    assert "giraffe" in run.err
    assert "--background gives other words" in run.err


def test_the_log_and_the_page_say_which_part_of_the_data_was_measured(bench, tmp_path):
    color_folder(tmp_path / "pets", classes=("red", "green", "giraffe"))
    run = bench("--data", "pets")
    assert run.code == DONE
    assert "pets: 3 images, 2 of 3 classes, " in run.err
    page = (tmp_path / "fgseg-bench" / "pets" / "report.html").read_text()
    assert "3 images, 0 failed; 2 of 3 classes. Figures" in page


def test_an_unknown_word_in_a_caption_fails_its_image(bench, tmp_path):
    picture(tmp_path / "images" / "a.png")
    row = {"id": "a", "difficulty": "hard", "bbox_xywh": [1, 2, 9, 9], "positive": ["yacht"], "negatives": ["red"]}
    write_json("fgovd.json", {"rows": [row]})
    run = bench("--task", "boxes", "--data", "fgovd.json")
    assert run.code == SOME_FAILED
    assert "has never seen the word 'yacht'" in run.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "nowhere: expected a folder"),
        (["--data", "voc21"], "root: expected the folder that holds voc21's data"),
        (["--threshold", "0.1,0.2"], "--threshold: expected one value, got 2; several need --sweep"),
        (["--propagate", "lposs"], "propagate: expected one of none, patches, pixels, both, got 'lposs'"),
        (["--vote"], "--vote: expected --regions and --vote together, got no --regions; give both or none"),
        (["--regions", "superpixels"], "--regions: expected --regions and --vote together, got no --vote"),
        (
            ["--regions", "slic", "--vote"],
            "--regions: expected superpixels, eomt, a label PNG, a JSON file or a folder",
        ),
        (["--regions", "none,superpixels", "--vote"], "--regions: expected one value, got 2; several need --sweep"),
        (["--threshold", ""], "--threshold: expected a number, got none; leave it out"),
        (["--root", "nowhere"], "root: procedural scenes have no files, got nowhere; leave it out"),
        (["--route", "long"], "route: segmentation takes no text route, got 'long'; leave it out"),
        (["--sweep", "--refine", "none,none"], "refinements: expected one value or more, each once"),
        (["--threshold", "high"], "--threshold: expected numbers separated by commas, got 'high'"),
        (["--resolution", "big"], "resolution: expected a mode and sizes"),
        (["--preset", "sclip"], "dataset: expected one of voc21"),
        (["--task", "boxes"], "--data: the task boxes needs a JSON file, got none"),
        (["--task", "retrieval", "--data", "none.json"], "which does not exist"),
        (["--task", "poses"], "Invalid value for '--task'"),
        (["--classes", "a.txt", "--words", "names"], "--classes: a class file has its words"),
        (["--refine", "crf"], "refine: expected one of none, guided, pamr, superpixel"),
        (["--sweep", "--recipe", "value,foo"], "recipe: expected one of value, vanilla"),
        (["--sweep", "--recipe", ""], "--recipe: expected a name, got none"),
        (["--only", "purple elephant"], "expected names of its classes, got purple elephant"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(bench, words, message):
    run = bench("--scenes", 1, "--side", 32, *words)
    assert run.code == USAGE
    assert message in run.err
    assert run.out == ""


def test_a_standard_set_with_a_preset_is_measured(bench, tmp_path):
    base = tmp_path / "data" / "ADEChallengeData2016"
    picture(base / "images" / "validation" / "a.jpg", hw=(40, 56))
    labels = np.random.RandomState(0).randint(0, 151, (40, 56)).astype(np.uint8)
    (base / "annotations" / "validation").mkdir(parents=True)
    Image.fromarray(labels).save(base / "annotations" / "validation" / "a.png")
    names = [f"- name: class {index}\n  prompts: [red]" for index in range(150)]
    words = tmp_path / "words.yaml"
    words.write_text("\n".join(names))
    run = bench(
        "--data", "ade20k", "--root", "data", "--preset", "naclip", "--recipe", "naclip", "--classes", words,
        "--templates", "none", "--no-pictures", "--json",
    )  # fmt: skip
    assert run.code == DONE, run.err
    document = json.loads(run.out)
    assert document["settings"]["preset"] == "naclip"
    assert document["settings"]["resize"] == "published"
    assert document["data"]["full_size"] == 2000
    assert any("position table" in line for line in document["settings"]["deviations"])


def test_help_loads_nothing_heavy():
    script = "import fgseg.commands.bench, sys; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "cv2", "PIL", "matplotlib", "transformers", "tqdm"}
