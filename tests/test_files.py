"""Writing files."""

import errno
import io
import os
import resource
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from odd_images import PICTURE

from fgseg._files import temporary
from fgseg._files.output_errors import writing
from fgseg._files.temporary import remove_abandoned
from fgseg._files.writers import append_bytes, create_bytes, replacing, write_bytes, write_npz, write_text
from fgseg.errors import DiskError, FgsegError, ImageError, OptionError, OutputError, ShapeError
from fgseg.images.label_png import write_label_png
from fgseg.images.writing import write_image

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]

WRITERS = {
    "image": lambda path: write_image(path.with_suffix(".png"), PICTURE),
    "labels": lambda path: write_label_png(path, np.array([[0]]), colors=COLORS),
    "text": lambda path: write_text(path, "text"),
    "bytes": lambda path: write_bytes(path, b"bytes"),
    "npz": lambda path: write_npz(path, a=np.zeros(2)),
}


@pytest.fixture(params=sorted(WRITERS))
def write(request):
    return WRITERS[request.param]


def test_every_writer_makes_the_folder_and_leaves_only_its_file(write, tmp_path):
    write(tmp_path / "new" / "er" / "out.png")
    assert [path.name for path in (tmp_path / "new" / "er").iterdir()] == ["out.png"]


def test_every_writer_replaces_an_old_file(write, tmp_path):
    (tmp_path / "out.png").write_bytes(b"old")
    write(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() != b"old"


def test_no_writer_leaves_an_incomplete_file_if_the_disk_is_full(write, tmp_path, monkeypatch):
    (tmp_path / "out.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DiskError, match=r"out.png: cannot be written, No space left on device; choose another place"):
        write(tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"old"


def test_every_writer_reports_a_file_in_the_place_of_its_folder(write, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "out.png", tmp_path / "file" / "deeper" / "out.png"):
        with pytest.raises(OutputError, match=r"out.png: cannot be written, a file stands where its folder"):
            write(path)


def test_every_writer_reports_a_target_that_is_a_folder(write, tmp_path):
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OutputError, match=r"out.png: cannot be written, it is a folder; give a file name") as caught:
        write(tmp_path / "out.png")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_every_writer_reports_a_missing_permission(write, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # file modes do not stop root, who may run the tests
    with pytest.raises(OutputError, match=r"cannot be written, permission denied; choose a folder that you may"):
        write(tmp_path / "out.png")


def test_a_name_that_no_file_can_have_is_an_output_error(tmp_path):
    for name in ("null\0byte", "a" * 5000):
        with pytest.raises(OutputError, match="cannot be written"):
            write_bytes(tmp_path / name, b"")


def test_an_interrupted_write_leaves_only_the_old_file(tmp_path):
    write_bytes(tmp_path / "out.bin", b"old")

    def write_half():
        with replacing(tmp_path / "out.bin") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"old"


HALF_A_FILE = """
import sys, time
from pathlib import Path
from fgseg._files.writers import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    print("half", flush=True)
    time.sleep(600)
"""


@contextmanager
def writing_half(path):
    """A process that has written half of a file and waits; it is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HALF_A_FILE, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"half\n"
            yield
        finally:
            process.kill()


def test_what_a_killed_writer_leaves_is_removed_by_the_next_process_and_what_a_living_one_writes_is_kept(tmp_path):
    with writing_half(tmp_path / "living.bin"):
        with writing_half(tmp_path / "dead.bin"):
            assert [is_locked(path) for path in tmp_path.iterdir()] == [True, True]
        assert len(list(tmp_path.iterdir())) == 2
        write_bytes(tmp_path / "new.bin", b"new")
        (left,) = (path for path in tmp_path.iterdir() if path.name != "new.bin")
        assert is_locked(left)


def is_locked(folder):
    try:
        temporary._unlock(temporary._lock(folder))
    except BlockingIOError:
        return True
    return False


def test_folders_with_similar_names_are_not_removed(tmp_path):
    names = [".part", f".{'a' * 32}.parts", f"{'a' * 32}.part", f".{'A' * 32}.part"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f".{'b' * 32}.part").symlink_to(tmp_path / ".part")
    write_bytes(tmp_path / "new.bin", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, f".{'b' * 32}.part", "new.bin"])


def test_bytes_that_do_not_fit_are_not_appended_in_part(tmp_path):
    append_bytes(tmp_path / "rows", b"first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with pytest.raises(OutputError, match="rows: cannot be written, File too large; choose another place"):
            append_bytes(tmp_path / "rows", b"second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "rows").read_bytes() == b"first"
    append_bytes(tmp_path / "rows", b"third", sync=True)
    assert (tmp_path / "rows").read_bytes() == b"firstthird"


def test_written_files_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_text_is_written_as_utf_8_with_unchanged_line_ends_and_undecodable_file_names(tmp_path):
    write_text(tmp_path / "a.txt", "é\n" + os.fsdecode(b"\xff.jpg"))
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n\\udcff.jpg"


@pytest.mark.parametrize("name", ["path", "file", "allow_pickle", "self", "a/b", "blue circle", "ü"])
def test_an_npz_can_store_an_array_of_any_name(name, tmp_path):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    write_npz(tmp_path / "maps.npz", **{name: array, "other": np.array(3)})
    with np.load(tmp_path / "maps.npz") as maps:
        assert set(maps) == {name, "other"}
        assert maps[name].dtype == np.float16
        np.testing.assert_array_equal(maps[name], array)


def test_an_npz_is_compressed_and_the_same_arrays_give_the_same_bytes(tmp_path):
    zeros = np.zeros((100, 100))
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, zeros=zeros)
    assert (tmp_path / "a.npz").stat().st_size < zeros.nbytes / 50
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    reference = io.BytesIO()
    np.savez_compressed(reference, zeros=zeros)
    with np.load(tmp_path / "a.npz") as ours, np.load(io.BytesIO(reference.getvalue())) as numpys:
        np.testing.assert_array_equal(ours["zeros"], numpys["zeros"])


def test_an_npz_of_objects_is_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"words: expected an array of numbers, got .*object; objects need a pickle"):
        write_npz(tmp_path / "maps.npz", words=np.array([{}], dtype=object))
    assert list(tmp_path.iterdir()) == []


def test_the_errors_of_files_share_a_base():
    for error in (ImageError, OutputError, OptionError, ShapeError):
        assert issubclass(error, FgsegError)


def test_a_file_is_created_once_and_never_replaced(tmp_path):
    path = tmp_path / "new" / "a.bin"
    assert [create_bytes(path, data, sync=True) for data in (b"first", b"second")] == [True, False]
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_is_created_once_where_there_are_no_links(tmp_path, monkeypatch, code):
    def no_links(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    assert [create_bytes(tmp_path / "a.bin", data) for data in (b"first", b"second")] == [True, False]
    assert (tmp_path / "a.bin").read_bytes() == b"first"


@pytest.mark.parametrize("write", [write_bytes, create_bytes])
def test_a_synced_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch, write):
    synced = []
    sync = os.fsync

    def see(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        assert (tmp_path / "a.bin").exists() == (len(synced) == 2)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", see)
    write(tmp_path / "a.bin", b"12", sync=True)
    assert synced[0].startswith(str(tmp_path / "."))
    assert synced[1] == str(tmp_path)
    write(tmp_path / "b.bin", b"12")
    assert len(synced) == 2


def test_a_created_file_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left on device"):
        create_bytes(tmp_path / "a.bin", b"12", sync=True)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_dead_writers_are_removed_each_time_that_is_asked(tmp_path):
    for _ in range(2):
        (tmp_path / f".{'0' * 32}.part").mkdir()
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_what_the_system_says_while_writing_names_the_file(tmp_path):
    with pytest.raises(OutputError, match=r"a.bin: cannot be written"), writing(tmp_path / "a.bin"):
        raise OSError(errno.EIO, "Input/output error")
