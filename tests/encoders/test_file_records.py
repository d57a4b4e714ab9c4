"""What files hold, in comparison with their name or with what they held when they were first read."""

import hashlib
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CLIP, GOLDEN, loaded, model_config, model_tensors, saved_model

from fgseg.encoders import checkpoint, file_records
from fgseg.encoders.checkpoint import damaged_files, find_checkpoint
from fgseg.encoders.file_records import PIECES, damage, file_digest, is_json
from fgseg.errors import WeightsError

CONTENT = np.random.RandomState(91).bytes(100_000)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of 100,000 bytes, and an empty folder of records."""
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENT)
    return path


def changed(path, places):
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def read_files(monkeypatch):
    """The files that are read from now on."""
    read, real = [], file_records._read
    monkeypatch.setattr(file_records, "_read", lambda path: read.append(path) or real(path))
    return read


@pytest.mark.parametrize("places", [[0], [50_000], [99_999], [10, 20, 30]])
def test_a_flipped_byte_is_found_by_comparison_with_the_first_time(file, places):
    assert damage(file) is None
    changed(file, places)
    message = damage(file)
    assert message.startswith(
        f"{file}: 1 of {PIECES} pieces have changed since it was first loaded; copy the file anew"
    )
    record = message.split("or remove ")[1].removesuffix(" if you changed it yourself")
    Path(record).unlink()
    assert damage(file) is None  # it is now what the file held when it was first loaded


def test_other_weights_of_the_same_size_are_no_damage_and_are_recorded_anew(file, caplog):
    caplog.set_level(logging.INFO, "fgseg")
    assert damage(file) is None
    other = np.random.RandomState(92).bytes(100_000)
    file.write_bytes(CONTENT[:1000] + other[1000:])  # the header of such a file stays
    assert damage(file) is None
    assert "other weights than at the last start" in caplog.text
    changed(file, [7])
    assert damage(file) is not None


def test_weights_of_another_size_are_no_damage(file):
    assert damage(file) is None
    file.write_bytes(CONTENT[:-1])
    assert damage(file) is None


def test_a_file_is_read_once_until_its_size_times_or_inode_change(file, read_files):
    assert (damage(file), damage(file), file_digest(file)) == (None, None, hashlib.sha256(CONTENT).hexdigest())
    assert len(read_files) == 1
    os.utime(file, ns=(1, 10**18))
    assert damage(file) is None
    assert len(read_files) == 2
    shutil.copy2(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    assert damage(file) is None
    assert len(read_files) == 3
    assert damage(file, again=True) is None
    assert len(read_files) == 4


def test_a_change_is_found_although_the_time_of_modification_was_set_back(file):
    assert damage(file) is None
    stat = file.stat()
    changed(file, [5])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert damage(file) is not None


def test_a_file_named_after_its_sha256_is_compared_with_its_name(file):
    blob = file.with_name(hashlib.sha256(CONTENT).hexdigest())
    file.rename(blob)
    link = file.with_name("link.safetensors")
    link.symlink_to(blob.name)
    assert damage(link) is None
    changed(blob, [3])
    assert damage(link).startswith(f"{blob}: its SHA-256 is ")
    assert damage(link) is not None  # a damaged file is not recorded as good


def test_json_that_is_cut_off_is_damage_whatever_its_name(file):
    path = file.with_suffix(".json")
    path.write_text('{"a": 1}')
    assert is_json(path)
    assert damage(path) is None
    path.write_text('{"a": ')
    assert damage(path) == f"{path}: it is not JSON"
    assert not is_json(path)
    assert not is_json(file.with_name("none.json"))
    path.write_text("[]")
    assert not is_json(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"path": "", "state": 1, "sha256": "", "pieces": []}'])
def test_a_record_that_cannot_be_read_counts_as_none(file, text, read_files):
    damage(file)
    (record,) = (file.parent / "cache" / "weights").iterdir()
    record.write_text(text)
    assert damage(file) is None
    assert len(read_files) == 2
    assert damage(file) is None
    assert len(read_files) == 2


def test_without_a_cache_a_file_is_read_every_time(file, read_files, monkeypatch, caplog):
    monkeypatch.setenv("FGSEG_CACHE", "off")
    assert (damage(file), damage(file)) == (None, None)
    assert len(read_files) == 2
    (file.parent / "blocked").write_text("")
    monkeypatch.setenv("FGSEG_CACHE", str(file.parent / "blocked"))
    assert damage(file) is None
    assert "the weights are read at every start. FGSEG_CACHE names another folder" in caplog.text


def test_a_file_of_a_few_bytes_has_a_record_too(file):
    file.write_bytes(b"abc")
    assert damage(file) is None
    file.write_bytes(b"")
    assert damage(file) is None


def test_the_embedded_model_is_the_one_that_the_code_expects(monkeypatch):
    mini = find_checkpoint("mini")
    assert damaged_files(mini, again=True) == {}, "after a training, put the new SHA-256 into checkpoint.py"
    monkeypatch.setattr(checkpoint, "_MINI_SHA256", "0" * 64)
    assert "and it should be 000000000000..." in damaged_files(mini)["model.safetensors"]
    with pytest.raises(WeightsError, match="pip install --force-reinstall --no-deps fgseg"):
        loaded("mini")


def test_a_folder_with_a_flipped_byte_is_refused_and_one_with_trained_weights_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    shutil.copytree(GOLDEN / CLIP, tmp_path / "own")
    digest = loaded(tmp_path / "own").digest()
    changed(tmp_path / "own" / "model.safetensors", [500_000])
    with pytest.raises(WeightsError, match=r"own/model\.safetensors: 1 of 64 pieces have changed since it was first"):
        loaded(tmp_path / "own")
    trained = {name: tensor * 1.001 for name, tensor in model_tensors(CLIP).items()}
    saved_model(tmp_path / "own", trained, model_config(CLIP))
    assert loaded(tmp_path / "own").digest() != digest
