"""Files, folders and patterns to image files."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from fgseg._files.writers import write_bytes
from fgseg.errors import ImageError, OptionError
from fgseg.images.find import IMAGE_SUFFIXES, find_images, source_folder
from fgseg.images.reading import _FORMATS


@pytest.fixture
def album(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "raw.dat", "deep/c.tiff", "deep/er/d.webp"):
        write_bytes(tmp_path / name, b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def assert_finds(album, sources, expected):
    found = find_images([album / source for source in sources])
    assert [path.relative_to(album).as_posix() for path in found] == expected


def test_a_folder_gives_its_pictures_sorted_and_no_other_files(album):
    assert_finds(album, [""], ["a.png", "b.JPG"])


def test_a_folder_says_how_many_files_and_subfolders_it_leaves_out(album, caplog):
    find_images([album])
    assert caplog.messages == [f"{album}: 2 pictures; left out: 2 other files (1 .dat, 1 .txt) and 3 subfolders"]
    caplog.clear()
    find_images([album / "deep" / "er", album / "a.png"])
    assert not caplog.messages


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    for name in ("a.heic", "b.heic", "clip.mp4"):
        write_bytes(tmp_path / name, b"x")
    (tmp_path / "2024").mkdir()
    with pytest.raises(ImageError, match=r"this folder, but 3 other files \(2 .heic, 1 .mp4\) and 1 subfolder"):
        find_images([tmp_path])


def test_files_of_a_format_that_another_package_registers_are_found(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a.HEIC", b"x")
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    assert [path.name for path in find_images([tmp_path])] == ["a.HEIC"]


def test_a_web_address_is_left_to_its_reader():
    assert find_images(["https://example.org/a*.jpg"]) == [Path("https://example.org/a*.jpg")]


def test_files_are_returned_in_the_given_order_whatever_their_suffix(album):
    assert_finds(album, ["raw.dat", "b.JPG", "notes.txt"], ["raw.dat", "b.JPG", "notes.txt"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.png", "b.JPG"]),
        ("?.*", ["a.png", "b.JPG"]),
        ("*.*", ["a.png", "b.JPG"]),
        ("*.dat", ["raw.dat"]),
        ("[ab].png", ["a.png"]),
        ("**", ["a.png", "b.JPG", "deep/c.tiff", "deep/er/d.webp"]),
        ("**/*.webp", ["deep/er/d.webp"]),
        ("*/*", ["deep/c.tiff"]),
    ],
)
def test_a_pattern_gives_pictures_or_the_files_of_the_suffix_it_names(album, pattern, expected):
    assert_finds(album, [pattern], expected)


def test_the_order_is_kept_and_a_file_that_is_named_twice_is_returned_once(album, monkeypatch):
    assert_finds(album, ["b.JPG", "", "a.png", "deep"], ["b.JPG", "a.png", "deep/c.tiff"])
    monkeypatch.chdir(album)
    others = ["a.png", album / "a.png", "deep/../a.png", "deep/er/../../a.png"]
    assert find_images(["./a.png", *others]) == [Path("a.png")]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_folder_is_that_folder_and_a_link_to_a_file_is_a_file_of_its_own(album):
    (album / "again").symlink_to(album / "deep", target_is_directory=True)
    (album / "linked.png").symlink_to(album / "a.png")
    assert_finds(album, ["deep/c.tiff", "again/c.tiff"], ["deep/c.tiff"])
    assert_finds(album, ["a.png", "linked.png"], ["a.png", "linked.png"])
    (album / "round").symlink_to(album / "round")
    assert_finds(album, ["round/x.png"], ["round/x.png"])  # for the reader to report


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("deep", "deep"), ("a.png", ""), ("deep/c.tiff", "deep"), ("gone/x.png", "gone"), ("*.png", ""), ("**", ""),
        ("deep/*/d.webp", "deep"), ("deep/er/*", "deep/er"), ("d[e]ep/er/*", ""), ("img[1].png", ""),
        ("odd[1]", "odd[1]"),
    ],
)  # fmt: skip
def test_images_are_named_from_the_folder_of_their_source(album, source, expected):
    (album / "odd[1]").mkdir()
    write_bytes(album / "img[1].png", b"x")
    assert source_folder(album / source) == album / expected
    if source not in ("odd[1]", "gone/x.png"):
        assert all(path.is_relative_to(album / expected) for path in find_images([album / source]))


def test_a_pattern_of_the_current_folder_is_named_from_it(album, monkeypatch):
    monkeypatch.chdir(album)
    assert source_folder("*.png") == source_folder("./*.png") == Path()


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(album):
    write_bytes(album / "img[1].png", b"x")
    assert_finds(album, ["img[1].png"], ["img[1].png"])


def test_files_that_do_not_exist_are_returned_so_that_their_reader_reports_them(album):
    assert_finds(album, ["gone.jpg", "a.png"], ["gone.jpg", "a.png"])
    assert find_images(["x" * 5000]) == [Path("x" * 5000)]


@pytest.mark.parametrize(
    ("source", "what"),
    [("empty", "empty: no picture in this folder"), ("*.gif", r"\*.gif: no picture in this pattern")],
)
def test_a_folder_or_pattern_without_pictures_is_refused_with_its_name_and_the_suffixes_that_count(album, source, what):
    with pytest.raises(ImageError, match=rf"{what}; files with these suffixes are read: \.jpg \.jpeg .*\.tif"):
        find_images([album / "a.png", album / source])


@pytest.mark.parametrize("sources", [[], (), "a.png", Path("a.png"), None, 3, [None], b"a.png"])
def test_sources_that_are_not_a_list_of_paths_are_refused(sources):
    with pytest.raises(OptionError, match="sources: expected a list of at least one file, folder or pattern"):
        find_images(sources)


def test_a_folder_that_cannot_be_listed_is_an_image_error(album, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageError, match=r"empty: cannot be listed \(Permission denied\); check its permissions"):
        find_images([album / "empty"])


def test_suffixes_that_count_belong_to_formats_that_are_read():
    extensions = Image.registered_extensions()
    # MPO files are opened by the JPEG reader
    assert {extensions[suffix] for suffix in IMAGE_SUFFIXES} <= {*_FORMATS, "MPO"}
