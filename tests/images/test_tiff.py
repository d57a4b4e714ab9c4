"""TIFFs of every kind: the pixels that a file states, the same whole and by region, or one clear sentence."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiff_files as tf
import tifffile
from hypothesis import given, settings, strategies as st
from PIL import Image

from fgseg.errors import ImageError, OptionError
from fgseg.images.reading import open_tiff_file, read_image, read_image_hw, read_picture, rgb_source
from fgseg.large.label_tiff import open_tiled, tiled_hw


def by_region(path, **options):
    """RGB and no-data mask of a file that is read from top to bottom."""
    with open_tiff_file(path) as tiff:
        rows = list(rgb_source(tiff.stored().choosing(options.get("bands")), options.get("stretch")).rows())
    return np.concatenate([row.rgb for row in rows]), np.concatenate([row.no_data for row in rows])


def same_both_ways(path, **options):
    """The RGB of a file, which is the same whole and by region."""
    picture = read_picture(path, **options)
    rgb, no_data = by_region(path, **options)
    np.testing.assert_array_equal(rgb, picture.rgb)
    np.testing.assert_array_equal(
        no_data, np.zeros(no_data.shape, bool) if picture.no_data is None else picture.no_data
    )
    return picture


# --- every combination of tags

NUMBERS = [  # (bits, sample format, dtype, values that are drawn, their levels)
    (1, tf.UINT, np.uint8, [0, 1], [0, 255]),
    (2, tf.UINT, np.uint8, [0, 1, 3], [0, 85, 255]),
    (4, tf.UINT, np.uint8, [0, 5, 15], [0, 85, 255]),
    (8, tf.UINT, np.uint8, [0, 7, 255], [0, 7, 255]),
    (12, tf.UINT, np.uint16, [0, 15, 16, 4095], [0, 0, 1, 255]),
    (16, tf.UINT, np.uint16, [0, 255, 256, 65_535], [0, 0, 1, 255]),
    (32, tf.UINT, np.uint32, [0, 7, 255], [0, 7, 255]),
    (32, tf.UINT, np.uint32, [0, 511, 65_535], [0, 1, 255]),
    (8, tf.INT, np.int8, [0, 7, 127], [0, 7, 127]),
    (16, tf.INT, np.int16, [0, 511, 32_767], [0, 1, 127]),
    (32, tf.INT, np.int32, [0, 7, 255], [0, 7, 255]),
    (64, tf.INT, np.int64, [0, 511, 65_535], [0, 1, 255]),
    (16, tf.FLOAT, np.float16, [0, 0.2, 1], [0, 51, 255]),
    (32, tf.FLOAT, np.float32, [0, 0.2, 1.0000001], [0, 51, 255]),
    (32, tf.FLOAT, np.float32, [-0.05, 0.2, 1.4], [0, 51, 255]),
    (64, tf.FLOAT, np.float64, [0, 51, 255.5], [0, 51, 255]),
    (32, tf.FLOAT, np.float32, [0, 511, 65_535], [0, 1, 255]),
]


@st.composite
def kinds(draw):
    bits, sample_format, dtype, values, levels = draw(st.sampled_from(NUMBERS))
    photometric = draw(st.sampled_from([tf.MINISBLACK, tf.MINISWHITE, tf.RGB]))
    colors = 3 if photometric == tf.RGB else draw(st.sampled_from([1, 1, 3]))
    extra = draw(st.lists(st.just(tf.UNSPECIFIED), max_size=2))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40)), colors + len(extra)
    picks = np.random.RandomState(draw(st.integers(0, 999))).randint(0, len(values), shape)
    picks.flat[:1] = len(values) - 1  # the brightest value is there, so that the range is known
    if shape[2] == 2:
        colors = 1
    if photometric != tf.RGB and colors == 1 and shape[2] >= 3:
        colors = 3  # grey of three samples or more is a picture of bands
    picks[0, 0, :colors] = len(values) - 1
    options = {
        "photometric": photometric, "bits": bits, "sample_format": sample_format,
        "extra": draw(st.sampled_from([extra, [tf.UNSPECIFIED] * (shape[2] - 1) if photometric != tf.RGB else extra])),
        "planes": draw(st.booleans()), "big_endian": draw(st.booleans()),
        "compression": draw(st.sampled_from([tf.NONE, tf.LZW, tf.DEFLATE, tf.PACKBITS])),
        "tile": draw(st.sampled_from([None, (16, 16), (16, 32)])),
        "rows_per_strip": draw(st.sampled_from([None, 1, 7])),
    }  # fmt: skip
    drawn = np.array(levels, np.uint8)[picks][:, :, :colors]
    if photometric == tf.MINISWHITE:
        drawn = 255 - drawn
    return np.array(values, dtype)[picks], options, np.repeat(drawn, 3, axis=2) if colors == 1 else drawn


@settings(deadline=None, max_examples=150)
@given(kind=kinds())
def test_a_file_of_any_kind_gives_the_levels_of_its_values(kind, tmp_path_factory):
    samples, options, expected = kind
    path = tf.write_tiff(tmp_path_factory.getbasetemp() / "any.tif", samples, **options)
    picture = same_both_ways(path)
    np.testing.assert_array_equal(picture.rgb, expected)
    assert read_image_hw(path) == samples.shape[:2]
    assert tiled_hw(path) == (samples.shape[:2] if options["tile"] else None)


COLORS = np.array([[[200, 30, 40], [20, 220, 60]], [[10, 20, 230], [250, 250, 250]]], np.uint8)


@pytest.mark.parametrize("meaning", [tf.ASSOCIATED, tf.UNASSOCIATED, tf.UNSPECIFIED])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_only_a_sample_that_is_declared_alpha_is_alpha(meaning, dtype, tmp_path):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    alpha = np.full((2, 2, 1), 51, np.uint8)
    colors = np.concatenate([COLORS // (5 if meaning == tf.ASSOCIATED else 1), alpha], axis=2)
    samples = (colors.astype(np.float32) * scale).astype(dtype)
    bits, kind = 8 * samples.itemsize, tf.FLOAT if dtype == np.float32 else tf.UINT
    path = tf.write_tiff(
        tmp_path / "a.tif", samples, photometric=tf.RGB, bits=bits, sample_format=kind, extra=[meaning]
    )
    laid_on_white = COLORS * 0.2 + 255 * 0.8
    expected = COLORS if meaning == tf.UNSPECIFIED else laid_on_white
    np.testing.assert_allclose(same_both_ways(path).rgb, expected, atol=1)


@pytest.mark.parametrize("extra", [[], [tf.UNSPECIFIED]])
def test_a_fourth_sample_without_a_meaning_is_a_band_that_can_be_chosen(extra, tmp_path, caplog):
    infrared = np.full((2, 2, 1), 77, np.uint8)
    path = tf.write_tiff(
        tmp_path / "a.tif",
        np.concatenate([COLORS, infrared], axis=2),
        photometric=tf.RGB,
        bits=8,
        extra=extra,
        tile=(16, 16),
    )
    np.testing.assert_array_equal(same_both_ways(path).rgb, COLORS)
    assert "a.tif: 4 bands, of which the first 3 are drawn; --bands 3,2,1" in caplog.messages[0]
    np.testing.assert_array_equal(
        same_both_ways(path, bands=[4, 1, 2]).rgb, np.concatenate([infrared, COLORS[:, :, :2]], axis=2)
    )
    np.testing.assert_array_equal(same_both_ways(path, bands=(4,)).rgb, np.repeat(infrared, 3, axis=2))
    assert read_picture(path, bands=(4, 1, 2)).settings["bands"] == [4, 1, 2]


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((5,), r"bands: expected numbers from 1 to 4 for .*a.tif, got \[5\]"),
        ((0, 1, 2), "bands: expected one number .* counted from 1, got tuple"),
        ((1, 2), "bands: expected one number"),
        ("321", "bands: expected one number"),
        ((True,), "bands: expected one number"),
    ],
)
def test_bands_that_a_file_does_not_have_are_refused(bands, message, tmp_path):
    path = tf.write_tiff(tmp_path / "a.tif", np.zeros((2, 2, 4), np.uint8), photometric=tf.RGB, bits=8)
    with pytest.raises(OptionError, match=message):
        read_image(path, bands=bands)


def test_a_palette_has_no_bands_to_choose(tmp_path):
    path = tf.write_tiff(
        tmp_path / "a.tif", np.array([[[0], [1], [3]]], np.uint8), photometric=tf.PALETTE, bits=2,
        colormap=[0, 65_535, 0, 257 * 9, 0, 0, 0, 257 * 8, 257, 0, 0, 257 * 7],
    )  # fmt: skip
    assert same_both_ways(path).rgb.tolist() == [[[0, 0, 1], [255, 0, 0], [9, 8, 7]]]
    with pytest.raises(OptionError, match="holds palette colours, which have no bands"):
        read_image(path, bands=(1,))


@pytest.mark.parametrize(
    ("photometric", "pixel", "expected"),
    [
        (tf.SEPARATED, (0, 255, 255, 0), (255, 0, 0)),
        (tf.YCBCR, (76, 85, 255), (254, 0, 0)),
        (tf.CIELAB, (138, 80, 67), (255, 0, 0)),
    ],
)
def test_red_in_other_colour_spaces_is_red(photometric, pixel, expected, tmp_path):
    # CIELAB of pure red is L 53.2, a 80.1, b 67.2; 8 bits have steps of a whole unit, up to 10 levels
    tags = [(530, 3, [1, 1])] if photometric == tf.YCBCR else []
    samples = np.array([[pixel]], np.uint8)
    path = tf.write_tiff(tmp_path / "a.tif", samples, photometric=photometric, bits=8, tags=tags)
    np.testing.assert_allclose(same_both_ways(path).rgb[0, 0], expected, atol=12)


# --- what Pillow writes, read by a second implementation

PILLOW = {
    "lzw": ("RGB", {"compression": "tiff_lzw"}),
    "lzw with predictor": ("RGB", {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
    "jpeg": ("RGB", {"compression": "jpeg", "quality": 95}),
    "grey jpeg": ("L", {"compression": "jpeg", "quality": 95}),
    "packbits": ("L", {"compression": "packbits"}),
    "fax group 3": ("1", {"compression": "group3"}),
    "fax group 4": ("1", {"compression": "group4"}),
    "fax": ("1", {"compression": "tiff_ccitt"}),
    "zstd": ("RGB", {"compression": "zstd"}),
    "lzma": ("RGB", {"compression": "lzma"}),
    "deflate": ("RGBA", {"compression": "tiff_adobe_deflate"}),
    "cmyk": ("CMYK", {}),
    "lab": ("LAB", {}),
    "palette": ("P", {}),
    "16 bits": ("I;16", {"compression": "tiff_lzw"}),
}


@pytest.mark.parametrize("kind", PILLOW)
def test_a_file_that_pillow_wrote_is_read_as_pillow_reads_it(kind, tmp_path):
    mode, options = PILLOW[kind]
    rgb = np.random.RandomState(4).randint(0, 256, (20, 30, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    picture = Image.fromarray(rgb)
    if mode == "LAB":
        picture = Image.frombytes("LAB", (120, 80), rgb.tobytes())
    elif mode == "I;16":
        picture = Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 200)
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "a.tif", **options)
    with Image.open(tmp_path / "a.tif") as opened:
        np.testing.assert_array_equal(same_both_ways(tmp_path / "a.tif").rgb, read_image(opened))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_file_of_any_orientation_is_read_upright(orientation, tile, tmp_path):
    samples = np.random.RandomState(orientation).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    path = tf.write_tiff(
        tmp_path / "a.tif",
        samples,
        photometric=tf.RGB,
        bits=8,
        tile=tile,
        rows_per_strip=9,
        tags=[(274, 3, [orientation])],
    )
    with Image.open(path) as opened:  # Pillow turns a TIFF itself
        np.testing.assert_array_equal(same_both_ways(path).rgb, np.asarray(opened.convert("RGB")))
    assert read_image_hw(path) == ((50, 40) if orientation > 4 else (40, 50))


# --- which page


def small_and_full(**small_tags):
    full = np.random.RandomState(1).randint(0, 256, (64, 96, 3)).astype(np.uint8)
    options = {"photometric": tf.RGB, "bits": 8}
    thumbnail = full[::4, ::4] if "samples" not in small_tags else small_tags.pop("samples")
    tags = [(tag, 4 if tag == 254 else 3, [value]) for tag, value in small_tags.get("tags", {}).items()]
    return full, [tf.page(thumbnail, tags=tags, **options), tf.page(full, **options)]


@pytest.mark.parametrize("tags", [{254: 1}, {255: 2}, {254: 4}, {}])
def test_the_full_picture_is_read_and_not_a_thumbnail_or_mask_before_it(tags, tmp_path):
    full, pages = small_and_full(tags=tags)
    path = tf.write_pages(tmp_path / "a.tif", pages)
    np.testing.assert_array_equal(same_both_ways(path).rgb, full)
    assert read_image_hw(path) == (64, 96)


def test_of_pages_of_a_document_the_first_is_read(tmp_path):
    first = np.zeros((16, 90, 3), np.uint8)
    _, pages = small_and_full(samples=first)
    np.testing.assert_array_equal(read_image(tf.write_pages(tmp_path / "a.tif", pages)), first)
    _, pages = small_and_full()
    np.testing.assert_array_equal(read_image(tf.write_pages(tmp_path / "b.tif", pages[::-1])), small_and_full()[0])


# --- ranges, no data, places


def gray_float(path, values, **options):
    samples = np.array(values, np.float32)[:, :, None]
    return tf.write_tiff(path, samples, photometric=tf.MINISBLACK, bits=32, sample_format=tf.FLOAT, **options)


def test_nan_is_no_data_and_the_count_is_said(tmp_path, caplog):
    path = gray_float(tmp_path / "a.tif", [[0.2, np.nan], [1, np.inf]], tile=(16, 16))
    picture = same_both_ways(path)
    assert picture.no_data.tolist() == [[False, True], [False, False]]
    assert picture.rgb[:, :, 0].tolist() == [[51, 255], [255, 255]]
    assert caplog.messages[0] == f"{path}: 1 of 4 pixels have no data and stay unlabelled"
    assert picture.settings == {"bands": None, "stretch": None, "levels": [0, 1], "no_data_pixels": 1}


def test_a_file_without_any_data_is_read_as_such(tmp_path):
    assert same_both_ways(gray_float(tmp_path / "a.tif", [[np.nan, np.nan]])).no_data.all()


@pytest.mark.parametrize("text", ["-9999", "nan", " 7 ", "not a number", "1e400"])
def test_the_no_data_value_of_gdal_is_no_data(text, tmp_path):
    value = {"-9999": -9999.0, "nan": np.nan, " 7 ": 7.0}.get(text, 0.5)
    path = gray_float(tmp_path / "a.tif", [[0.2, value], [1, 0.2]], tags=[(42113, 2, text)])
    no_data = same_both_ways(path).no_data
    assert no_data is None if value == 0.5 else no_data.tolist() == [[False, True], [False, False]]


def test_a_pixel_of_bands_has_no_data_where_all_of_them_are_missing(tmp_path):
    samples = np.array([[[0, 0, 0], [0, 200, 30]]], np.uint8)
    path = tf.write_tiff(tmp_path / "a.tif", samples, photometric=tf.RGB, bits=8, tags=[(42113, 2, "0")])
    assert same_both_ways(path).no_data.tolist() == [[True, False]]
    assert same_both_ways(path, bands=(1,)).no_data.tolist() == [[True, True]]


@pytest.mark.parametrize("values", [[[-1.0, 1.0]], [[0.0, 99_000.0]], [[-200.0, -3.0]]])
def test_values_of_an_unknown_range_are_refused_and_a_stretch_maps_them(values, tmp_path):
    path = gray_float(tmp_path / "heights.tif", values, tile=(16, 16))
    message = r"heights.tif: values from \S+ to \S+ fit none of the ranges .*--stretch 2,98"
    with pytest.raises(ImageError, match=message):
        read_image(path)
    with pytest.raises(ImageError, match=message):
        by_region(path)
    picture = same_both_ways(path, stretch=(0, 100))
    assert picture.rgb[0, :, 0].tolist() == [0, 255]
    assert picture.settings["stretch"] == [0, 100]
    np.testing.assert_allclose(picture.settings["levels"], values[0], rtol=1e-4)


def test_a_picture_that_fills_little_of_its_range_is_reported_with_the_option_to_use(tmp_path, caplog):
    samples = np.array([[[480, 3760, 3760], [3760, 480, 480]]], np.uint16)
    path = tf.write_tiff(tmp_path / "a.tif", samples, photometric=tf.RGB, bits=16, tile=(16, 16))
    assert read_image(path).max() == 14
    (message,) = caplog.messages
    assert message.startswith(
        f"{path}: its values reach 3760, but 65535 is taken for white, so the picture is nearly bl"
    )
    assert "--stretch 0,100 (in Python read_picture(..., stretch=(0, 100)))" in message
    caplog.clear()
    assert same_both_ways(path, stretch=(0, 100)).rgb.tolist() == [[[0, 255, 255], [255, 0, 0]]]
    assert not caplog.messages


@pytest.mark.parametrize("tag", [33550, 33922, 34264, 34735])
def test_a_place_on_the_map_is_said_to_be_lost(tag, tmp_path, caplog):
    path = tf.write_tiff(
        tmp_path / "a.tif", COLORS, photometric=tf.RGB, bits=8, tags=[(tag, 3 if tag == 34735 else 12, [1] * 6)]
    )
    read_image(path)
    assert caplog.messages == [f"{path}: the image has a place on the map (GeoTIFF), which the results do not keep"]


# --- files that are refused, in the same words both ways


def damaged(path):
    tf.write_tiff(
        path, np.zeros((40, 40, 3), np.uint8), photometric=tf.RGB, bits=8, tile=(16, 16), compression=tf.DEFLATE
    )
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))


def with_tag(photometric=tf.RGB, samples=3, dtype=np.uint8, **options):
    bits = 8 * np.dtype(dtype).itemsize
    return lambda path: tf.write_tiff(
        path, np.zeros((20, 20, samples), dtype), photometric=photometric, **{"bits": bits, "tile": (16, 16), **options}
    )


def cut(share):
    def write(path):
        with_tag()(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return write


def without_pixels(path):
    tags = [(256, 4, [0]), (257, 4, [5]), (258, 3, [8]), (262, 3, [1]), (277, 3, [1])]
    tf.write_pages(path, [(tags, [b""], (273, 279))])


REFUSED = {
    "a colour filter array": (with_tag(32803, 1), "a raw photograph of a camera; develop it first"),
    "a DNG": (with_tag(tags=[(50706, 3, [1, 4])]), "a raw photograph of a camera; develop it first"),
    "LOGLUV": (with_tag(32845), "expected grey, bands, RGB, .* got LOGLUV of 3 samples per pixel; convert it to RGB"),
    "inks": (with_tag(tf.SEPARATED, 4, tags=[(332, 3, [2])]), "got SEPARATED of 4 samples per pixel; convert"),
    "RGB of two": (with_tag(tf.RGB, 2), "got RGB of 2 samples per pixel"),
    "complex": (with_tag(tf.MINISBLACK, 1, np.complex64, bits=64, sample_format=6), r"of 64 bits \(complex64\)"),
    "CMYK of 32 bits": (with_tag(tf.SEPARATED, 4, np.uint32), r"of 32 bits \(uint32\) cannot be read as SEPARATED"),
    "reduced colours": (with_tag(tf.YCBCR, tags=[(530, 3, [2, 2])]), "YCbCr with reduced colour resolution is read"),
    "another compression": (with_tag(compression=60_000), "compressed as 60000, which cannot be read; use deflate"),
    "LERC": (with_tag(compression=34_887), "compressed as LERC, which needs the package imagecodecs; pip install"),
    "old JPEG": (with_tag(compression=6), "compressed as OJPEG, which needs the package imagecodecs"),
    "JPEG of 16 bits": (with_tag(compression=7, dtype=np.uint16), "JPEG of 16 bits cannot be read; use 8"),
    "a damaged tile": (damaged, "the image data is truncated or damaged .*copy it or save it again"),
    "a cut file": (cut(0.5), "truncated or damaged|cut off|not a TIFF"),
    "a cut header": (cut(0.01), "truncated or damaged|cut off|not a TIFF"),
    "tiles without end": (
        with_tag(tf.MINISBLACK, 1, tile=None, tags=[(322, 4, [2**30]), (323, 4, [2**30])]),
        "its strips or tiles of 1073741824 x 1073741824 pixels are too large",
    ),
    "no pixels": (without_pixels, r"the image has no pixels \(0 x 5\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_in_the_same_words_both_ways(kind, tmp_path):
    if "needs the package" in REFUSED[kind][1] and find_spec("imagecodecs"):
        pytest.skip("imagecodecs is here")
    build, message = REFUSED[kind]
    path = tmp_path / "a.tif"
    build(path)
    said = []
    for read in (read_image, by_region):
        with pytest.raises(ImageError, match=message) as caught:
            read(path)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith(f"{path}: ")
    assert "\n" not in said[0]


def test_files_that_are_not_tiled_cannot_be_read_by_region(tmp_path):
    strips = tf.write_tiff(tmp_path / "strips.tif", COLORS, photometric=tf.RGB, bits=8)
    shutil.copy(Path(__file__).parent.parent / "data" / "api_surface.json", tmp_path / "text.tif")
    for path, message in (
        (strips, "stored in strips, which cannot be read by region; save it as a tiled TIFF"),
        (tmp_path / "text.tif", "not a TIFF, and other formats cannot be read by region; save it as a tiled TIFF"),
        (tmp_path / "missing.tif", "there is no such file; check the path"),
        (tmp_path, "this is a folder, not a file"),
    ):
        with pytest.raises(ImageError, match=message), open_tiled(path):
            pass
        assert tiled_hw(path) is None


def test_chosen_bands_silence_only_the_warning_about_bands(tmp_path, caplog):
    samples = np.zeros((2, 2, 4), np.uint8)
    path = tf.write_tiff(
        tmp_path / "a.tif", samples, photometric=tf.RGB, bits=8, tile=(16, 16), tags=[(33550, 12, [1, 1, 1])]
    )
    for read in (read_picture, by_region):
        caplog.clear()
        read(path, bands=(4, 2, 1))
        assert caplog.messages == [f"{path}: the image has a place on the map (GeoTIFF), which the results do not keep"]
        caplog.clear()
        read(path)
        assert [message.split(": ", 1)[1][:7] for message in caplog.messages] == ["the ima", "4 bands"]
