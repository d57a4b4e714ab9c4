"""What folders, patterns, lists, tables, videos and object stores give: items, and counts of what is left out."""

import io
import os
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import odd_images
import pandas
import pytest
from batch_images import write_video
from hypothesis import given, settings, strategies as st

from fgseg.errors import ImageError, OptionError
from fgseg.images.video import Video
from fgseg.store.sources import SourceOptions, check_sources, find_items, local_path, video_frame


def found(*sources, **options):
    """The items of some sources, and what is left out."""
    left_out = Counter()
    items = list(find_items([str(source) for source in sources], SourceOptions(**options), left_out))
    return items, dict(left_out)


def ids(items):
    return [item.image_id for item in items]


@pytest.fixture
def photos(tmp_path):
    """A folder with three pictures, one of them in a subfolder, and with what is left out."""
    folder = tmp_path / "photos"
    (folder / "may").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name in ("b.png", "a.JPG", "may/a.jpg", "notes.txt", "may/list.txt", ".hidden.png", ".cache/c.png"):
        (folder / name).write_bytes(b"12345")
    return folder


# --- folders, files and patterns


def test_a_folder_gives_its_pictures_by_name_and_counts_the_rest(photos):
    items, left_out = found(photos)
    assert ids(items) == ["a.JPG", "b.png"]
    assert left_out == {"other files": 1, "subfolders": 1, "hidden": 2}
    path = photos / "b.png"
    assert (items[1].uri, items[1].size, items[1].mtime_ns) == (str(path), 5, path.stat().st_mtime_ns)


def test_subfolders_are_looked_into_on_request(photos):
    items, left_out = found(photos, recursive=True)
    assert ids(items) == ["a.JPG", "b.png", "may/a.jpg"]
    assert left_out == {"other files": 2, "hidden": 2}


def test_links_to_folders_are_not_followed_since_they_may_go_in_circles(photos):
    (photos / "may" / "up").symlink_to(photos, target_is_directory=True)
    assert found(photos, recursive=True)[1]["linked folders"] == 1


def test_files_and_patterns_are_named_from_their_folder(photos):
    assert ids(found(photos / "b.png")[0]) == ["b.png"]
    assert ids(found(photos / "*.png")[0]) == ["b.png"]
    assert ids(found(photos / "**" / "*.jpg")[0]) == ["may/a.jpg"]
    assert ids(found(photos / "*.txt")[0]) == ["notes.txt"]  # a pattern with a suffix takes what it names
    items, left_out = found(photos / "*")
    assert (ids(items), left_out) == (["a.JPG", "b.png"], {"other files": 1, "subfolders": 1})


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    path = tmp_path / "a[1].png"
    path.touch()
    assert ids(found(path)[0]) == ["a[1].png"]


def test_an_image_that_two_sources_name_is_taken_once(photos):
    items, left_out = found(photos, photos / "b.png")
    assert ids(items) == ["a.JPG", "b.png"]
    assert left_out["duplicates"] == 1


def test_two_images_of_one_id_are_refused(photos):
    other = photos.parent / "other"
    other.mkdir()
    (other / "b.png").touch()
    with pytest.raises(
        OptionError, match=r"two images have the id b\.png, one is .*/other/b\.png; give a folder above"
    ):
        found(photos, other)


@pytest.mark.parametrize("name", ["empty", "empty/*.png"])
def test_a_source_without_pictures_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no picture in it; add --recursive to look into its subfolders, or --every N"):
        found(tmp_path / name)


def test_a_name_that_is_not_unicode_has_an_escaped_id_and_an_address_that_finds_it(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    path = tmp_path / name
    path.write_bytes(b"12")
    ((item,), _) = found(tmp_path)
    assert item.image_id == r"caf\xe9.png"
    assert item.uri.startswith("file:///")
    assert item.uri.endswith("/caf%E9.png")
    assert local_path(item.uri) == str(path)


def test_names_are_in_one_unicode_form(tmp_path):
    (tmp_path / "e\u0301.png").touch()
    assert ids(found(tmp_path)[0]) == ["\u00e9.png"]


@given(names=st.sets(st.text("ab/.", min_size=1, max_size=9), max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_recursive_folder_gives_each_picture_once_in_the_order_of_its_folders(names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    expected = set()
    for name in names:
        relative = Path(*[part.strip(".") or "x" for part in name.split("/")], "p.png")
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative).touch()
        expected.add(relative.as_posix())
    (folder / "p.png").touch()
    listed = ids(found(folder, recursive=True)[0])
    assert len(listed) == len(set(listed))
    assert set(listed) == expected | {"p.png"}


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ([], OptionError, "sources: expected a list of at least one folder"),
        ("photos", OptionError, "sources: expected a list of at least one folder"),
        ([1], OptionError, "sources: expected a list of at least one folder"),
        ([""], OptionError, "got no name"),
        (["no/such.png"], ImageError, r"no/such\.png: there is no such file or folder; check the path"),
    ],
)
def test_sources_that_are_not_there_are_refused_at_once(sources, error, message):
    with pytest.raises(error, match=message):
        check_sources(sources)


def test_lists_patterns_and_addresses_are_looked_at_later():
    assert check_sources(["-", "no/*.png", "s3://bucket/photos", Path()]) == [
        "-",
        "no/*.png",
        "s3://bucket/photos",
        ".",
    ]


# --- lists and tables


def test_a_list_on_stdin_is_relative_to_the_current_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    outside = photos.parent / "x.png"
    monkeypatch.setattr(
        "sys.stdin", io.StringIO(f"b.png\n\nmay/../a.JPG\n{outside}\nmissing.png\ns3://bucket/d/e.png\n")
    )
    items, _ = found("-")
    assert ids(items) == ["b.png", "a.JPG", str(outside)[1:], "missing.png", "bucket/d/e.png"]
    assert [item.size for item in items] == [5, 5, None, None, None]
    assert [item.uri for item in items[3:]] == [str(photos / "missing.png"), "s3://bucket/d/e.png"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_names_images_relative_to_its_folder(photos, suffix):
    frame = pandas.DataFrame({"id": [1, 2, 3], "path": ["b.png", "may/a.jpg", ""], "film": ["x.png"] * 3})
    table = photos / f"list{suffix}"
    frame.to_csv(table, index=False) if suffix == ".csv" else frame.to_parquet(table)
    assert ids(found(table)[0]) == ["b.png", "may/a.jpg"]
    assert ids(found(table, id_column="id")[0]) == ["1", "2"]
    assert ids(found(table, column="film")[0]) == ["x.png"]
    with pytest.raises(OptionError, match=r"column: expected a column of .*, id, path, film, got 'url'"):
        found(table, column="url")
    with pytest.raises(OptionError, match="id_column: expected a column of"):
        found(table, id_column="key")


def test_a_table_without_a_known_column_asks_for_one(tmp_path):
    (tmp_path / "a.csv").write_text("name,width\na.png,3\n")
    with pytest.raises(
        OptionError, match=r"has none of the columns uri, path, image, .*; name one of its columns, name, width"
    ):
        found(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_damaged_table_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(ImageError, match="not a table that can be read"):
        found(path)


# --- videos


def test_a_video_gives_its_frames(tmp_path):
    clip = write_video(tmp_path / "clip.mp4")
    items, _ = found(clip, every=3)
    assert ids(items) == ["clip.mp4#000000", "clip.mp4#000003", "clip.mp4#000006"]
    assert video_frame(items[1].uri) == (str(clip), 3)
    assert items[1].size == clip.stat().st_size
    assert len(found(clip)[0]) == 8


def test_videos_in_folders_are_taken_only_with_every(tmp_path):
    write_video(tmp_path / "clip.mp4", frames=2)
    odd_images.rgb_png(tmp_path)
    assert found(tmp_path)[1] == {"other files": 1}
    assert ids(found(tmp_path, every=1)[0]) == ["clip.mp4#000000", "clip.mp4#000001", "rgb.png"]


def test_frames_are_the_same_in_any_order(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=10)
    with Video(clip) as video:
        in_order = [video.frame(number) for number in range(10)]
        assert [round(frame.mean() / 20 - 1) for frame in in_order] == list(range(10))
        for number in (7, 2, 9, 9, 0):
            np.testing.assert_array_equal(video.frame(number), in_order[number])
        with pytest.raises(ImageError, match="frame 10 cannot be read; the video ends before it or is damaged"):
            video.frame(10)
        np.testing.assert_array_equal(video.frame(3), in_order[3])


@pytest.mark.parametrize(
    ("content", "message"), [(b"no video", "not a video that OpenCV reads"), (None, "no such file")]
)
def test_a_file_that_is_no_video_is_refused(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        Video(path)


def test_only_videos_have_frames():
    assert video_frame("/a/b.png#frame=3") is None
    assert video_frame("/a/b.mp4#frame=x") is None


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_every_is_a_whole_number(every):
    with pytest.raises(OptionError, match="every: expected a whole number from 1"):
        SourceOptions(every=every)


# --- object stores


@pytest.fixture
def bucket():
    system = fsspec.filesystem("memory")
    for name in ("/bucket/photos/b.png", "/bucket/photos/may/a.jpg", "/bucket/photos/notes.txt"):
        system.pipe_file(name, b"12345")
    yield "memory://bucket/photos"
    system.rm("/bucket", recursive=True)


def test_a_prefix_is_listed_like_a_folder(bucket):
    items, left_out = found(bucket)
    assert (ids(items), left_out) == (["b.png"], {"other files": 1, "subfolders": 1})
    assert items[0].uri == "memory://bucket/photos/b.png"
    assert items[0].size == 5
    assert items[0].mtime_ns is not None
    items, left_out = found(bucket, recursive=True)
    assert (ids(items), left_out) == (["b.png", "may/a.jpg"], {"other files": 1})


def test_a_pattern_and_a_file_of_an_object_store(bucket):
    assert ids(found(bucket + "/*.png")[0]) == ["b.png"]
    assert ids(found(bucket + "/**/*.jpg")[0]) == ["may/a.jpg"]
    assert ids(found(bucket + "/may/a.jpg")[0]) == ["a.jpg"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/none", "there is nothing at this address; check it"),
        ("memory://bucket/photos/*.gif", "no picture in it"),
        ("nosuch://bucket/photos", "cannot be listed"),
    ],
)
def test_an_address_without_pictures_is_refused(bucket, address, message):
    with pytest.raises(ImageError, match=message):
        found(address)


def test_a_file_address_is_a_path(photos):
    items, _ = found(photos.as_uri())
    assert ids(items) == ["a.JPG", "b.png"]
    assert items[0].uri == str(photos / "a.JPG")
