"""Tiled TIFFs: read as Pillow reads them, clear about what cannot be read, and written from strips."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings, strategies as st
from large_images import RGB, bands_of, noise, tiff

from fgseg.errors import ImageError, OptionError
from fgseg.images.reading import read_image
from fgseg.large.tiled_tiff import open_tiled, read_label_tiff, tiled_hw, write_label_tiff
from fgseg.types import UNLABELLED

SEEDS = st.integers(0, 2**32 - 1)


@given(
    seed=SEEDS,
    hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile=st.sampled_from([(16, 16), (16, 48), (64, 32)]),
)
@settings(deadline=None, max_examples=40)
def test_the_bands_together_are_the_image_whatever_its_size_and_tiles(seed, hw, tile, tmp_path_factory):
    image = noise(seed, *hw, 3)
    path = tiff(tmp_path_factory.getbasetemp() / "bands.tif", image, tile=tile, photometric="rgb", compression="zlib")
    with open_tiled(path) as source:
        assert source.image_hw == hw
        bands = list(source.bands())
    np.testing.assert_array_equal(np.concatenate(bands), image)
    assert {len(band) for band in bands[:-1]} <= {tile[0]}


KINDS = {
    "grey": (noise(1, 40, 50), {"photometric": "minisblack"}),
    "grey, white is 0": (noise(2, 40, 50), {"photometric": "miniswhite"}),
    "grey with alpha": (
        noise(3, 40, 50, 2),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
    ),
    "rgb": (noise(4, 40, 50, 3), {"photometric": "rgb"}),
    "alpha": (noise(5, 40, 50, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "a fourth sample that is no alpha": (noise(6, 40, 50, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "grey of 16 bits": (noise(7, 40, 50, dtype=np.uint16), {"photometric": "minisblack"}),
    "rgb of 16 bits": (noise(8, 40, 50, 3, dtype=np.uint16), {"photometric": "rgb"}),
    "alpha of 16 bits": (noise(9, 40, 50, 4, dtype=np.uint16), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "palette": (
        noise(10, 40, 50),
        {"photometric": "palette", "colormap": noise(11, 3, 256, dtype=np.uint16)},
    ),
    "CMYK": (noise(16, 40, 50, 4), {"photometric": "separated"}),
    "CMYK of 16 bits": (noise(17, 40, 50, 4, dtype=np.uint16), {"photometric": "separated"}),
    "planes": (noise(12, 3, 40, 50), {"photometric": "rgb", "planarconfig": "separate"}),
    "BigTIFF": (noise(13, 40, 50, 3), {"photometric": "rgb", "bigtiff": True}),
    "deflate with predictor": (noise(14, 40, 50, 3), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    "big-endian": (noise(15, 40, 50, 3, dtype=np.uint16), {"photometric": "rgb", "byteorder": ">"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tile_is_read_as_pillow_reads_the_file(kind, tmp_path):
    pixels, options = KINDS[kind]
    path = tiff(tmp_path / "a.tif", pixels, **options)
    with open_tiled(path) as source:
        np.testing.assert_array_equal(np.concatenate(list(source.bands())), read_image(path))
    assert tiled_hw(path) == (40, 50)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiled_tiff_of_any_orientation_is_read_upright(orientation, tmp_path):
    path = tiff(tmp_path / "a.tif", noise(18, 40, 50, 3), photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    with open_tiled(path) as source:
        bands = list(source.bands())
        upright_hw = source.image_hw
    np.testing.assert_array_equal(np.concatenate(bands), read_image(path))
    assert upright_hw == tiled_hw(path) == ((50, 40) if orientation > 4 else (40, 50))
    assert len(bands) > 1


def test_colours_multiplied_by_alpha_are_laid_on_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:] = (100, 50, 0, 128)
    path = tiff(tmp_path / "a.tif", pixels, tile=(16, 16), photometric="rgb", extrasamples=["assocalpha"])
    with open_tiled(path) as source:
        (band,) = source.bands()
    assert band[0, 0].tolist() == [227, 177, 127]


def test_a_missing_tile_is_empty_and_only_the_first_page_is_read(tmp_path):
    full = np.full((16, 16, 3), 200, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"dtype": np.uint8, "tile": (16, 16), "photometric": "rgb", "metadata": None}
        writer.write(iter([full, None]), shape=(16, 32, 3), **options)
        writer.write(iter([full, full]), shape=(16, 32, 3), **options)
    with open_tiled(tmp_path / "a.tif") as source:
        (band,) = source.bands()
    assert (band[:, :16] == 200).all()
    assert not band[:, 16:].any()


def retagged(path, **values):
    """The file with other values in some tags."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in values.items():
            file.pages[0].tags[name].overwrite(value)
    return path


def holding(path, data):
    path.write_bytes(data)
    return path


def shortened(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


BROKEN = {
    "not there": (lambda path: path, "there is no such file; check the path"),
    "a folder": (lambda path: path.mkdir() or path, "this is a folder, not a file"),
    "empty": (lambda path: holding(path, b""), "not a TIFF, or a damaged one.*tiled TIFF"),
    "not a TIFF": (
        lambda path: holding(path, b"\x89PNG" * 9),
        "not a TIFF, or a damaged one.*vips tiffsave",
    ),
    "strips": (lambda path: tiff(path, RGB, tile=None, photometric="rgb"), "stored in strips.*vips tiffsave"),
    "cut off": (lambda path: shortened(tiff(path, RGB, photometric="rgb"), 0.7), "the file is cut off, .* bytes of at"),
    "cut off in its header": (lambda path: shortened(tiff(path, RGB, photometric="rgb"), 0.005), "a.tif: "),
    "five samples": (
        lambda path: tiff(path, noise(21, 40, 50, 5), photometric="minisblack", planarconfig="contig"),
        "expected grey, RGB, either with alpha, CMYK, or palette colours, got MINISBLACK of 5 samples",
    ),
    "inks that are not CMYK": (
        lambda path: tiff(path, noise(22, 40, 50, 4), photometric="separated", extratags=[(332, 3, 1, 2, True)]),
        "got SEPARATED of 4 samples per pixel; convert it to RGB",
    ),
    "floats": (
        lambda path: tiff(path, RGB[:, :, 0].astype(np.float32), photometric="minisblack"),
        r"expected whole numbers of 8 or 16 bits per sample, got 32 bits \(float32\)",
    ),
    "a compression of its own": (
        lambda path: retagged(tiff(path, RGB, photometric="rgb"), Compression=60000),
        "tiles compressed as .*60000.* cannot be read; use deflate",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_read_by_region_is_refused_at_once_in_one_line(kind, tmp_path):
    build, message = BROKEN[kind]
    path = build(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=message) as caught, open_tiled(path):
        pass
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_compression_without_its_package_names_the_package(tmp_path, monkeypatch):
    class Without(dict):
        def __missing__(self, key):
            raise KeyError(f"{key!r} requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TIFF.__class__, "DECOMPRESSORS", Without())
    path = retagged(tiff(tmp_path / "a.tif", RGB, photometric="rgb"), Compression=5)
    with (
        pytest.raises(ImageError, match="compressed as LZW, which needs the package imagecodecs; pip install"),
        open_tiled(path),
    ):
        pass


def test_a_decoder_whose_module_is_missing_names_the_package_too(tmp_path, monkeypatch):
    def decode(data, **_):
        raise ImportError("No module named 'compression'")

    monkeypatch.setattr(tifffile.TIFF.__class__, "DECOMPRESSORS", {50000: decode})
    path = retagged(tiff(tmp_path / "a.tif", RGB, photometric="rgb"), Compression=50000)
    with open_tiled(path) as source, pytest.raises(ImageError, match="compressed as ZSTD, which needs the package"):
        list(source.bands())


def test_a_damaged_tile_is_reported_when_it_is_read(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    with open_tiled(path) as source, pytest.raises(ImageError, match=r"the TIFF is damaged .*copy it or save it again"):
        list(source.bands())


def test_other_files_than_tiled_tiffs_have_no_tiled_size(tmp_path):
    assert tiled_hw(tiff(tmp_path / "strips.tif", RGB, tile=None, photometric="rgb")) is None
    assert tiled_hw(tmp_path / "missing.tif") is None
    (tmp_path / "text.tif").write_text("hello")
    assert tiled_hw(tmp_path / "text.tif") is None
    assert tiled_hw(tmp_path / "photo.png") is None


@given(seed=SEEDS, hw=st.tuples(st.integers(1, 300), st.integers(1, 300)), classes=st.sampled_from([1, 254, 255, 400]))
@settings(deadline=None, max_examples=20)
def test_labels_written_in_strips_are_read_back(seed, hw, classes, tmp_path_factory):
    rng = np.random.RandomState(seed)
    labels = rng.randint(-1, classes, hw).astype(np.int32)
    path = tmp_path_factory.getbasetemp() / "labels.tif"
    colors = [(index % 256, 7, 9) for index in range(classes)]
    write_label_tiff(path, bands_of(labels, rng.randint(1, 290, 2)), image_hw=hw, colors=colors)
    np.testing.assert_array_equal(read_label_tiff(path), labels)
    top, left = rng.randint(hw[0]), rng.randint(hw[1])
    bottom, right = rng.randint(top, hw[0]) + 1, rng.randint(left, hw[1]) + 1
    np.testing.assert_array_equal(read_label_tiff(path, (left, top, right, bottom)), labels[top:bottom, left:right])
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].is_tiled
    stored, unlabelled = tifffile.imread(path), 255 if classes <= 254 else 65535
    assert stored.dtype == (np.uint8 if classes <= 254 else np.uint16)
    assert (stored[labels == UNLABELLED] == unlabelled).all()


def test_an_8_bit_label_map_opens_in_the_colours_of_its_classes(tmp_path):
    labels = np.array([[0, 1, -1]], np.int32)
    write_label_tiff(tmp_path / "a.tif", iter([labels]), image_hw=(1, 3), colors=[(255, 0, 0), (0, 128, 255)])
    assert read_image(tmp_path / "a.tif").tolist() == [[[255, 0, 0], [0, 128, 255], [0, 0, 0]]]


def test_more_classes_than_16_bits_hold_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(OptionError, match="a 16-bit label map holds 65534 classes, got 65535"):
        write_label_tiff(tmp_path / "a.tif", iter([]), image_hw=(4, 3), colors=[(1, 2, 3)] * 65_535)
    assert not list(tmp_path.iterdir())


def test_a_box_outside_the_label_map_is_refused(tmp_path):
    write_label_tiff(tmp_path / "a.tif", iter([np.zeros((4, 3), np.int32)]), image_hw=(4, 3), colors=[(1, 2, 3)])
    for box in ((0, 0, 4, 4), (0, -1, 2, 2), (1, 1, 1, 3)):
        with pytest.raises(OptionError, match="box_xyxy: expected a box inside 3 x 4 pixels"):
            read_label_tiff(tmp_path / "a.tif", box)
    rgb = tiff(tmp_path / "rgb.tif", RGB, photometric="rgb")
    with pytest.raises(ImageError, match="expected a label map, one sample per pixel, got 3"):
        read_label_tiff(rgb)


@pytest.mark.parametrize("box", [(1, 2), (0.5, 0, 4, 4), np.zeros((2, 2)), "1234", [[1], [1, 2]]])
def test_a_box_of_labels_is_four_whole_numbers(box, tmp_path):
    strips = iter([np.zeros((8, 8), np.int32)])
    write_label_tiff(tmp_path / "a.tif", strips, image_hw=(8, 8), colors=[(0, 0, 0)])
    with pytest.raises(OptionError, match="box_xyxy: expected"):
        read_label_tiff(tmp_path / "a.tif", box)


def test_a_box_of_labels_may_be_an_array(tmp_path):
    strips = iter([np.zeros((8, 8), np.int32)])
    write_label_tiff(tmp_path / "a.tif", strips, image_hw=(8, 8), colors=[(0, 0, 0)])
    assert read_label_tiff(tmp_path / "a.tif", np.array([0, 0, 5, 3])).shape == (3, 5)
