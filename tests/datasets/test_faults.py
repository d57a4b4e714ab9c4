"""Faults of a data set, found without a model."""

import struct
import zlib

import numpy as np
import pytest
from dataset_folders import HW, label_folder, put_image, put_png

from fgseg.datasets.faults import preflight
from fgseg.datasets.labels import IdTable
from fgseg.datasets.opening import open_dataset
from fgseg.errors import DatasetError, OptionError
from fgseg.images.reading import read_image_hw


def test_labels_of_0_and_255_alone_are_reported_as_masks(tmp_path):
    label_folder(tmp_path, np.array([[0, 255, 255]] * 2, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected labels 0 to 2, got only 0 and 255, as in 0/255 masks" in fault
    put_image(tmp_path / "images" / "b.jpg")
    put_png(tmp_path / "labels" / "b.png", np.array([[0, 1, 255]] * 2, np.uint8))
    assert preflight(open_dataset(tmp_path)) == ()


def test_labels_of_0_and_255_are_explained_as_masks_also_if_no_label_is_ignored():
    with pytest.raises(DatasetError, match="as in a 0/255 mask; for masks, name their folder masks"):
        IdTable({0: 0, 1: 1}).decode(np.array([[0, 255]]), "a.png")


def test_labels_that_are_all_ignored_are_a_fault(tmp_path):
    label_folder(tmp_path, np.full(HW, 255, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected labelled pixels, got only ignored ones" in fault


def test_a_label_without_an_image_is_a_fault(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8))
    put_png(tmp_path / "labels" / "b.png", np.ones(HW, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert fault.startswith(f"{tmp_path / 'images' / 'b.*'}: no such image, for label")


def test_every_unreadable_file_is_a_fault_and_the_check_goes_on(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8))
    for stem in "bcde":
        put_image(tmp_path / "images" / f"{stem}.jpg")
        put_png(tmp_path / "labels" / f"{stem}.png", np.ones(HW, np.uint8))
    (tmp_path / "images" / "b.jpg").write_bytes(b"")
    (tmp_path / "labels" / "c.png").write_text("no picture")
    (tmp_path / "labels" / "d.png").unlink()
    put_image(tmp_path / "labels" / "d.jpg")
    cut = (tmp_path / "labels" / "e.png").read_bytes()
    (tmp_path / "labels" / "e.png").write_bytes(cut[: len(cut) - 12 - 14])
    empty, damaged, lossy, truncated = preflight(open_dataset(tmp_path))
    assert "b.jpg: the file is empty" in empty
    assert "c.png: not an image that can be read" in damaged
    assert "d.jpg: expected a label map, a palette or grey PNG, got JPEG with pixels of RGB" in lossy
    assert "e.png: the image data is truncated or damaged" in truncated


def test_a_rotated_photo_is_compared_upright(tmp_path):
    label_folder(tmp_path, np.ones((3, 2), np.uint8))
    put_image(tmp_path / "images" / "a.jpg", orientation=6)
    assert preflight(open_dataset(tmp_path)) == ()
    put_png(tmp_path / "labels" / "a.png", np.ones(HW, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "its size is 3 x 2, its image's 2 x 3 (upright)" in fault


def test_the_sample_is_spread_over_the_set_and_reported_and_the_other_label_files_are_not_read(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8))
    for index in range(9):
        put_image(tmp_path / "images" / f"{index}.jpg")
        put_png(tmp_path / "labels" / f"{index}.png", np.full(HW, 100, np.uint8))
    data = open_dataset(tmp_path)
    faults = preflight(data, sample=4)
    assert [fault.split(": ")[0][-5:] for fault in faults] == ["0.png", "3.png", "6.png"]  # the fourth is a.png
    assert all(fault.endswith("(4 of 10 label files read)") for fault in faults)
    assert preflight(data, sample=4) == faults
    assert len(preflight(data, sample=1)) == 1
    assert len(preflight(data)) == 9
    with pytest.raises(OptionError, match="sample: expected a number from 1"):
        preflight(data, sample=0)


def test_empty_images_and_labels_folders_are_a_fault(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.txt").write_text("cat\n")
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected images, got none" in fault


def test_a_gif_is_decoded_and_a_rotation_after_the_pixels_of_a_png_is_applied(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8))
    (tmp_path / "images" / "a.jpg").unlink()
    put_image(tmp_path / "images" / "a.gif")
    assert preflight(open_dataset(tmp_path)) == ()
    (tmp_path / "images" / "a.gif").unlink()
    put_png(tmp_path / "labels" / "a.png", np.ones((3, 2), np.uint8))
    path = put_image(tmp_path / "images" / "a.png")
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    path.write_bytes(path.read_bytes()[:-12] + chunk + path.read_bytes()[-12:])
    assert read_image_hw(path) == HW
    assert preflight(open_dataset(tmp_path)) == ()
