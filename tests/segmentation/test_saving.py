"""The folder of a result: which files are replaced, which stay, and what run.json says of them."""

import json
import os
from pathlib import Path

import pytest

from fgseg._files.writers import write_text
from fgseg.errors import OutputError
from fgseg.segmentation.saving import (
    Part,
    is_same_image,
    mark_unfinished,
    path_from,
    read_saved,
    save_parts,
)


def part(*names, text="new"):
    return Part(names, lambda folder: [write_text(folder / name, text) for name in names])


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("out")


A, B = {"image": "a.png", "threshold": 0.5}, {"image": "a.png", "threshold": 0.6}


def test_run_json_lists_the_files_and_comes_last(folder):
    written = save_parts(folder, [part("labels.png"), part("masks/0.png", "masks/1.png")], A, {"note": "mine"})
    assert written == [folder / name for name in ("labels.png", "masks/0.png", "masks/1.png", "run.json")]
    run = json.loads((folder / "run.json").read_text())
    files = ["labels.png", "masks/0.png", "masks/1.png", "run.json"]
    assert run == {**A, "note": "mine", "image_path": "../a.png", "files": files}


def test_another_result_replaces_the_files_of_the_first_and_no_other(folder):
    save_parts(folder, [part("labels.png"), part("masks/0.png", "masks/1.png")], A)
    (folder / "notes.txt").write_text("mine")
    save_parts(folder, [part("overlay.png"), part("masks/0.png")], B)
    assert files_in(folder) == ["masks/0.png", "notes.txt", "overlay.png", "run.json"]
    save_parts(folder, [part("overlay.png")], A)
    assert files_in(folder) == ["notes.txt", "overlay.png", "run.json"]
    assert not (folder / "masks").exists()
    assert read_saved(folder).files == ("overlay.png", "run.json")


def test_a_folder_with_a_file_of_the_user_is_kept(folder):
    save_parts(folder, [part("masks/0.png")], A)
    (folder / "masks" / "mine.png").write_text("mine")
    save_parts(folder, [part("overlay.png")], B)
    assert files_in(folder) == ["masks/mine.png", "overlay.png", "run.json"]


def test_the_very_same_result_may_be_saved_in_several_steps(folder):
    save_parts(folder, [part("labels.png")], A)
    save_parts(folder, [part("overlay.png")], A)
    assert files_in(folder) == ["labels.png", "overlay.png", "run.json"]
    assert set(read_saved(folder).files) == {"labels.png", "overlay.png", "run.json"}


def test_a_saving_that_is_stopped_is_unfinished_and_the_next_one_removes_what_it_left(folder):
    def stop(_):
        raise KeyboardInterrupt

    save_parts(folder, [part("labels.png")], A)
    with pytest.raises(KeyboardInterrupt):
        save_parts(folder, [part("overlay.png"), Part(("masks/0.png",), stop)], B)
    saved = read_saved(folder)
    assert not saved.is_finished
    assert set(saved.files) == {"labels.png", "overlay.png", "masks/0.png", "run.json"}
    save_parts(folder, [part("coco.json")], B)
    assert files_in(folder) == ["coco.json", "run.json"]
    assert read_saved(folder).is_finished


def test_a_result_that_is_marked_unfinished_keeps_its_files_until_it_is_saved(folder):
    save_parts(folder, [part("labels.tif", "overlay.png")], A)
    mark_unfinished(folder, "a.png", ["labels.tif"])
    assert (read_saved(folder).is_finished, read_saved(folder).image) == (False, Path("a.png").absolute())
    assert files_in(folder) == ["labels.tif", "overlay.png", "run.json"]


@pytest.mark.parametrize("name", ["../precious.txt", "{root}/precious.txt", "link/precious.txt", "masks"])
def test_a_run_json_that_names_files_elsewhere_removes_nothing_there(folder, tmp_path, name):
    (tmp_path / "precious.txt").write_text("mine")
    (folder / "masks").mkdir(parents=True)
    (folder / "masks" / "mine.txt").write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    (folder / "run.json").write_text(json.dumps({"image_path": "../a.png", "files": [name.format(root=tmp_path)]}))
    save_parts(folder, [part("overlay.png")], A)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    assert (folder / "masks" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"figures": 3}', '{"files": 3, "image_path": 5}', "\x00\xff"])
def test_a_run_json_of_something_else_names_no_image_and_no_file(folder, text):
    folder.mkdir()
    (folder / "run.json").write_text(text, encoding="latin-1")
    saved = read_saved(folder)
    assert (saved.image, saved.files) == (None, ())
    save_parts(folder, [part("overlay.png")], A)
    assert read_saved(folder).is_finished


def test_a_folder_without_run_json_and_one_that_is_a_file_hold_no_result(folder, tmp_path):
    assert read_saved(folder) is None
    (tmp_path / "file").write_text("")
    assert read_saved(tmp_path / "file") is None
    (folder / "run.json").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"run\.json: cannot be read .*; choose another folder"):
        read_saved(folder)


def test_a_file_that_cannot_be_removed_is_an_output_error(folder, monkeypatch):
    save_parts(folder, [part("labels.png")], A)

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match=r"labels\.png: cannot be removed \(Permission denied\)"):
        save_parts(folder, [part("overlay.png")], B)


def test_a_result_is_known_after_its_tree_has_moved_and_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "one" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    save_parts(Path("out/a"), [part("overlay.png")], {"image": "photos/a.png"})
    monkeypatch.chdir(tmp_path)
    os.rename("one", "two")  # noqa: PTH104
    saved = read_saved(Path("two/out/a"))
    assert is_same_image(saved.image, Path("two/photos/a.png"))
    assert not is_same_image(saved.image, Path("two/photos/b.png"))


def test_the_unicode_form_of_a_name_makes_no_difference():
    assert is_same_image(Path("caf\u00e9.png"), Path("cafe\u0301.png"))


def test_an_array_has_no_path_and_its_result_is_finished(folder):
    assert path_from(folder, None) is None
    save_parts(folder, [part("overlay.png")], {"image": None})
    assert (read_saved(folder).image, read_saved(folder).is_finished) == (None, True)
