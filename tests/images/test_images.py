import errno
import io
import itertools
import os
import re
import stat
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import odd_images
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from odd_images import ALPHA, BLOCK_COLORS, BROKEN, GRAY, INDICES, PICTURE, WORKING
from PIL import Image

import fgseg._files
from fgseg._files import write_bytes, write_npz, write_text
from fgseg.errors import FgsegError, ImageError, OptionError, OutputError, ShapeError
from fgseg.images.find import IMAGE_SUFFIXES, find_images
from fgseg.images.label_png import read_label_png, write_label_png
from fgseg.images.reading import _FORMATS, read_image
from fgseg.images.resizing import resize_bicubic, resize_bilinear
from fgseg.images.writing import encode_jpeg, encode_png, write_image

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
SMALL = settings(deadline=None, max_examples=60)


def gray_picture(gray):
    return np.dstack([gray] * 3)


def on_white(picture, alpha):
    """Composite by the definition, in floats."""
    share = alpha[:, :, None] / 255.0
    return picture * share + 255 * (1 - share)


def whitened(*, clear=None, half=None):
    """PICTURE with one block white, and one half way to white."""
    out = PICTURE.astype(float)
    if clear is not None:
        out[clear == INDICES] = 255
    if half is not None:
        out[half == INDICES] = (out[half == INDICES] * 128 + 255 * 127) / 255
    return out


# --- files that must simply work


@pytest.mark.parametrize(
    "builder",
    [
        *(odd_images.rgb_png, odd_images.png_named_jpg, odd_images.cmyk_tiff, odd_images.palette_png),
        *(odd_images.sixteen_bit_rgb_png, odd_images.sixteen_bit_rgb_tiff),
        *(odd_images.animated_gif, odd_images.animated_webp),
    ],
)
def test_lossless_colour_files_of_every_kind_give_the_picture_itself(builder, tmp_path):
    image = read_image(builder(tmp_path))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PICTURE)


@pytest.mark.parametrize("suffix", [".bmp", ".jp2", ".qoi", ".tga", ".ppm", ".tif", ".png", ".gif"])
def test_common_formats_are_read(suffix, tmp_path):
    np.testing.assert_array_equal(read_image(odd_images.rgb_file_of_kind(tmp_path, suffix)), PICTURE)


@pytest.mark.parametrize(
    "builder",
    [
        *(odd_images.gray_png, odd_images.sixteen_bit_png, odd_images.sixteen_bit_tiff),
        *(odd_images.sixteen_bit_pgm, odd_images.float_tiff, odd_images.int32_tiff),
    ],
)
def test_grey_files_of_every_depth_give_three_equal_channels(builder, tmp_path):
    np.testing.assert_array_equal(read_image(builder(tmp_path)), gray_picture(GRAY))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_a_float_file_is_taken_by_the_smallest_range_that_holds_it(top, tmp_path):
    np.testing.assert_array_equal(read_image(odd_images.float_tiff(tmp_path, top)), gray_picture(GRAY))


def test_a_32_bit_file_in_the_16_bit_range_keeps_its_high_byte(tmp_path):
    np.testing.assert_array_equal(read_image(odd_images.int32_tiff(tmp_path, 256)), gray_picture(GRAY))
    np.testing.assert_array_equal(read_image(odd_images.float_tiff(tmp_path, 255 * 256)), gray_picture(GRAY))


def test_an_int32_file_of_zeros_and_ones_is_not_stretched(tmp_path):
    Image.fromarray(np.array([[0, 1]], np.int32)).save(tmp_path / "mask.tif")
    assert read_image(tmp_path / "mask.tif")[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize("values", [[[-1.0, 0.5]], [[0.0, 65536.0]], [[np.nan, 0.5]], [[np.inf, 0.5]]])
def test_a_float_file_of_an_unknown_range_is_refused_with_its_range(values, tmp_path):
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "heights.tif")
    with pytest.raises(ImageError, match=r"heights.tif: 32-bit grey from \S+ to \S+ fits none .* rescale"):
        read_image(tmp_path / "heights.tif")


def test_a_cmyk_jpeg_and_a_lab_tiff_give_the_colours_they_were_made_of(tmp_path):
    # JPEG at quality 100 of flat blocks: rounding of the colour transform only
    np.testing.assert_allclose(read_image(odd_images.cmyk_jpeg(tmp_path)).astype(int), PICTURE, atol=2)
    # 8-bit LAB has steps of a whole unit of a and b, up to 10 levels of the darkest channel
    np.testing.assert_allclose(read_image(odd_images.lab_tiff(tmp_path)).astype(int), PICTURE, atol=12)


def test_alpha_is_laid_on_white(tmp_path):
    expected = on_white(PICTURE, ALPHA)
    # 0.51: one rounding to a whole level
    np.testing.assert_allclose(read_image(odd_images.alpha_png(tmp_path)), expected, atol=0.51)
    grey = read_image(odd_images.gray_alpha_png(tmp_path))
    np.testing.assert_allclose(grey, on_white(gray_picture(GRAY), ALPHA), atol=0.51)


def test_colours_declared_transparent_become_white(tmp_path):
    palette = read_image(odd_images.palette_png_with_transparent_color(tmp_path))
    np.testing.assert_allclose(palette, whitened(clear=0, half=1), atol=0.51)
    rgb = read_image(odd_images.rgb_png_with_transparent_color(tmp_path))
    np.testing.assert_array_equal(rgb, whitened(clear=0))
    grey = read_image(odd_images.sixteen_bit_png_with_transparent_level(tmp_path))
    np.testing.assert_array_equal(grey, gray_picture(np.where(INDICES == 0, 255, GRAY)))


def test_a_one_bit_file_is_black_and_white(tmp_path):
    expected = gray_picture(np.where(GRAY > 100, 255, 0))
    np.testing.assert_array_equal(read_image(odd_images.one_bit_png(tmp_path)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("builder", "tolerance"),
    [
        (odd_images.exif_rotated_jpeg, 2),  # lossy
        (odd_images.exif_rotated_png, 0),
        (odd_images.exif_rotated_tiff, 0),  # Pillow turns this one itself: it must not turn twice
    ],
)
def test_all_eight_exif_orientations_come_out_upright(builder, tolerance, orientation, tmp_path):
    image = read_image(builder(tmp_path, orientation))
    np.testing.assert_allclose(image.astype(int), PICTURE, atol=tolerance)


@SMALL
@given(
    upright=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    orientation=st.integers(1, 8),
)
def test_any_picture_stored_in_any_orientation_comes_back(upright, orientation):
    picture = Image.fromarray(odd_images.stored_by_exif(upright, orientation))
    picture.getexif()[274] = orientation
    image = read_image(picture)
    np.testing.assert_array_equal(image, upright)
    assert image.flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_means_upright(orientation):
    picture = Image.fromarray(PICTURE)
    picture.getexif()[274] = orientation
    np.testing.assert_array_equal(read_image(picture), PICTURE)


def test_a_photograph_with_broken_exif_is_read_and_the_damage_is_reported(tmp_path):
    path = odd_images.jpeg_with_broken_exif(tmp_path)
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        image = read_image(path)
    np.testing.assert_allclose(image.astype(int), PICTURE, atol=2)


@pytest.mark.parametrize("name", sorted(WORKING))
def test_every_working_kind_is_read_the_same_from_a_path_a_string_and_an_open_picture(name, tmp_path):
    path = WORKING[name](tmp_path)
    image = read_image(path)
    assert image.shape == (16, 24, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable, "torch.from_numpy warns about read-only arrays"
    np.testing.assert_array_equal(read_image(str(path)), image)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_image(opened), image)


# --- PIL images and arrays


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_a_pil_image_of_any_colour_mode_is_converted(mode):
    source = "RGBA" if mode == "RGBa" else "RGB"
    if mode == "LAB":
        picture = Image.new("LAB", (24, 16), (128, 128, 128))
        expected = np.broadcast_to(119, PICTURE.shape)  # L* = 128/255*100 is 119 in sRGB
    else:
        picture, expected = Image.fromarray(PICTURE).convert(source).convert(mode), PICTURE
    # YCbCr and HSV of 8 bits are rounded twice
    np.testing.assert_allclose(read_image(picture).astype(int), expected, atol=6)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "I;16", "I;16B", "I", "F"])
def test_a_pil_image_of_any_grey_mode_is_converted(mode):
    gray = Image.fromarray(GRAY)
    if mode == "La":
        picture = gray.convert("LA").convert("La")
    elif mode.startswith("I;16"):
        dtype = ">u2" if mode.endswith("B") else "<u2"
        picture = Image.fromarray((GRAY.astype(np.uint16) * 256).astype(dtype))
        assert picture.mode == mode
    else:
        picture = gray.convert(mode)
    np.testing.assert_array_equal(read_image(picture), gray_picture(GRAY))


def test_a_pil_image_is_taken_at_its_current_frame(tmp_path):
    with Image.open(odd_images.animated_gif(tmp_path)) as animation:
        animation.seek(1)
        assert read_image(animation).max() == max(BLOCK_COLORS[1][2])


def test_a_pil_image_is_checked_as_a_file_is(tmp_path):
    with pytest.raises(ImageError, match=r"PIL image: the image has no pixels \(0 x 5\); save it again"):
        read_image(Image.new("RGB", (0, 5)))
    with pytest.raises(ImageError, match=r"PIL image: 24 x 16 are 0.000384 megapixels.*0.0003"):
        read_image(Image.fromarray(PICTURE), max_pixels=300)
    with (
        Image.open(odd_images.truncated_png(tmp_path)) as broken,
        pytest.raises(ImageError, match=r"truncated.png: the image data is truncated or damaged"),
    ):
        read_image(broken)


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage garbage", b"MM\0*"])
def test_pixels_are_read_whatever_their_exif_says(tmp_path, suffix, exif, caplog):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(PICTURE).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(read_image(path), PICTURE)
    (message,) = caplog.messages
    assert re.match(rf".*x\.{suffix}: its EXIF cannot be read \(.+\); taken as upright$", message)


def test_a_limit_is_said_to_the_tenth_and_tiles_are_advised_only_where_they_help(tmp_path):
    with pytest.raises(ImageError, match=r"1.69 megapixels, over the limit of 1.5; shrink it$"):
        read_image(Image.new("RGB", (1300, 1300)), max_pixels=1_500_000)


def test_an_rgb_array_is_returned_itself():
    picture = PICTURE.copy()
    assert read_image(picture) is picture


@pytest.mark.parametrize("grey_shape", [(2, 3), (2, 3, 1)])
@pytest.mark.parametrize(
    ("white", "dtype"),
    [(255, "uint8"), (65535, "<u2"), (65535, ">u2"), (1, "float16"), (1, "float32"), (1, "float64")],
)
def test_grey_arrays_of_every_dtype_go_from_black_to_white(grey_shape, white, dtype):
    gray = np.zeros(grey_shape, dtype)
    gray[1] = white
    image = read_image(gray)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, gray_picture(np.array([[0] * 3, [255] * 3])))


def test_arrays_are_scaled_by_the_written_rules():
    wide = np.array([[[255, 256, 511]]], np.uint16)
    assert read_image(wide).tolist() == [[[0, 1, 1]]]  # the high byte
    # 127.5, 0.255 and 0.765 go to the nearest level, a tie to the even one
    assert read_image(np.array([[[0.5, 0.001, 0.003]]])).tolist() == [[[128, 0, 1]]]
    assert read_image(np.full((1, 1), 127.49 / 255, np.float32)).max() == 127  # half precision would say 128


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 1), (np.uint16, 257), (np.float64, 1 / 255)])
def test_an_rgba_array_is_laid_on_white_whatever_its_dtype(dtype, factor):
    rgba = (np.dstack([PICTURE, ALPHA]) * np.asarray(factor, dtype)).astype(dtype)
    np.testing.assert_allclose(read_image(rgba), on_white(PICTURE, ALPHA), atol=0.51)


@SMALL
@given(
    source=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32]),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4])),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_reading_never_changes_the_array_it_was_given(source):
    before = source.copy()
    source.setflags(write=False)
    assert read_image(source).shape == (*source.shape[:2], 3)
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            np.zeros((3, 4, 5), np.uint8),
            r"source: .*shape \(3, 4, 5\) and dtype uint8; put the colour axis last",
        ),
        (np.zeros((2, 4, 4, 3), np.uint8), r"one picture at a time"),
        (np.zeros(5, np.uint8), r"source: expected \(H, W\)"),
        (np.zeros((4, 4, 2), np.uint8), r"source: expected \(H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), r"at least one pixel"),
        (np.zeros((4, 4, 3), np.int64), r"expected uint8, uint16 or float in \[0, 1\], got .*int64; cast"),
        (np.zeros((4, 4), bool), r"expected uint8, uint16 or float in \[0, 1\], got .*bool; cast"),
        (np.full((4, 4), 1.01), r"floats in \[0, 1\], got .* from 1.01 to 1.01; divide"),
        (np.full((4, 4), -0.01), r"floats in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"floats in \[0, 1\].* from nan to nan"),
        ([[1, 2], [3, 4]], r"source: expected a path, bytes, a numpy array or a PIL image, got list"),
        (None, r"source: expected a path"),
    ],
)
def test_an_array_that_is_no_picture_is_refused_with_what_to_do(source, message):
    with pytest.raises(ShapeError, match=message):
        read_image(source)


@pytest.mark.parametrize("max_pixels", [0, -1, "many", float("nan")])
def test_a_limit_below_one_pixel_is_refused(max_pixels):
    with pytest.raises(OptionError, match="max_pixels: expected a number"):
        read_image(PICTURE, max_pixels=max_pixels)


# --- files that cannot be read


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (odd_images.missing_file, "there is no such file; check the path"),
        (odd_images.folder_named_jpg, "this is a folder, not a file; name a picture in it"),
        (odd_images.empty_file, r"the file is empty \(0 bytes\); copy or download it again"),
        (odd_images.text_file_named_jpg, "not an image that can be read.*save it as an ordinary JPEG"),
        (odd_images.postscript_file, "not an image that can be read"),
        (odd_images.zero_size_gif, "not an image that can be read, or one without pixels"),
        (
            odd_images.huge_png_header,
            "20000 x 20000 are 400 megapixels, over the limit of 178.96; shrink it, or save it as a tiled TIFF",
        ),
    ],
)
def test_a_bad_file_gives_one_line_with_its_name_the_fault_and_what_to_do(builder, message, tmp_path):
    path = builder(tmp_path)
    for read in (read_image, read_label_png):
        with pytest.raises(ImageError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("builder", [odd_images.truncated_jpeg, odd_images.truncated_png])
def test_a_truncated_picture_says_so_and_is_never_half_a_picture(builder, tmp_path):
    path = builder(tmp_path)
    message = r"the image data is truncated or damaged \(.*truncated.*\); copy it or save it again"
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_every_broken_kind_is_refused(tmp_path):
    for builder in BROKEN.values():
        with pytest.raises(ImageError):
            read_image(builder(tmp_path))


def test_the_cause_stays_attached(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_image(odd_images.missing_file(tmp_path))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(ImageError) as caught:
        read_image(odd_images.truncated_jpeg(tmp_path))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no file mode stops
    with pytest.raises(ImageError, match=r"rgb.png: no permission to read it; check the rights"):
        read_image(path)


@pytest.mark.parametrize("name", ["a" * 5000, "null\0byte.jpg"])
def test_a_name_that_no_file_can_have_is_an_image_error(name):
    with pytest.raises(ImageError, match=r"cannot be opened \(.+\); check the path"):
        read_image(name)


def test_a_name_with_line_ends_still_gives_one_line(tmp_path):
    with pytest.raises(ImageError, match=r"two lines\.jpg: there is no such file"):
        read_image(tmp_path / "two\nlines.jpg")


@pytest.mark.parametrize(
    "error",
    [OSError("x"), SyntaxError("x"), ValueError("x"), struct.error("x"), EOFError(), KeyError("AVIF")],
)
def test_whatever_type_pillow_raises_while_decoding_it_is_an_image_error(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match=r"rgb.png: the image data is truncated or damaged \(.+\)") as caught:
        read_image(path)
    assert caught.value.__cause__ is error


def test_a_picture_that_does_not_fit_in_memory_says_so(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match="too large for the memory of this machine; shrink it"):
        read_image(path)


@pytest.mark.parametrize("name", sorted(WORKING))
def test_a_file_cut_anywhere_gives_a_picture_or_an_image_error(name, tmp_path):
    whole = WORKING[name](tmp_path).read_bytes()
    cut = tmp_path / "cut"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about the torn metadata; an error is raised as well
        for size in range(0, len(whole), max(1, len(whole) // 12)):
            cut.write_bytes(whole[:size])
            try:
                image = read_image(cut)
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either outcome is right, at most one is an error
            else:
                assert image.shape[2] == 3


def test_the_limit_counts_the_pixels_of_the_header_and_is_inclusive(tmp_path):
    path = odd_images.rgb_png(tmp_path)
    assert read_image(path, max_pixels=24 * 16).shape == (16, 24, 3)
    with pytest.raises(ImageError, match=r"24 x 16 are 0.000384 megapixels, over the limit of 0.000383"):
        read_image(path, max_pixels=24 * 16 - 1)
    np.testing.assert_array_equal(read_image(PICTURE, max_pixels=1), PICTURE)  # arrays are there already


@pytest.mark.parametrize("name", ["rgb_png", "sixteen_bit_rgb_tiff", "cmyk_tiff", "animated_gif"])
@pytest.mark.parametrize("pillow_limit", [300, 100])  # it warns over its limit and raises over twice of it
def test_pillows_own_limit_neither_warns_nor_stops_and_is_put_back(name, pillow_limit, tmp_path, monkeypatch):
    path = WORKING[name](tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    np.testing.assert_array_equal(read_image(path), PICTURE)
    assert pillow_limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError):
        read_image(odd_images.truncated_png(tmp_path))
    assert pillow_limit == Image.MAX_IMAGE_PIXELS


def test_pictures_over_pillows_warning_size_are_refused_or_read_without_a_warning(tmp_path):
    path = odd_images.huge_png_header(tmp_path, 10_000)  # 100 megapixels: Pillow warns from 89 on
    with pytest.raises(ImageError, match="100 megapixels, over the limit of 90"):
        read_image(path, max_pixels=90_000_000)


def test_readers_in_threads_share_the_lifted_limit(tmp_path, monkeypatch):
    paths = [odd_images.rgb_png(tmp_path), odd_images.sixteen_bit_rgb_tiff(tmp_path)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    failures = []

    def work():
        try:
            for path in paths * 20:
                np.testing.assert_array_equal(read_image(path), PICTURE)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Image.MAX_IMAGE_PIXELS == 100


# --- finding files


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


def test_a_folder_gives_its_pictures_sorted_and_no_others(album):
    assert_finds(album, [""], ["a.png", "b.JPG"])


def test_files_are_taken_as_they_are_in_the_order_given(album):
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


def test_order_is_kept_and_a_file_named_twice_comes_once(album, monkeypatch):
    assert_finds(album, ["b.JPG", "", "a.png", "deep"], ["b.JPG", "a.png", "deep/c.tiff"])
    monkeypatch.chdir(album)
    others = ["a.png", album / "a.png", "deep/../a.png", "deep/er/../../a.png"]
    assert find_images(["./a.png", *others]) == [Path("a.png")]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_folder_by_another_way_is_the_same_and_a_link_to_a_file_is_one_of_its_own(album):
    (album / "again").symlink_to(album / "deep", target_is_directory=True)
    (album / "linked.png").symlink_to(album / "a.png")
    assert_finds(album, ["deep/c.tiff", "again/c.tiff"], ["deep/c.tiff"])
    assert_finds(album, ["a.png", "linked.png"], ["a.png", "linked.png"])
    (album / "round").symlink_to(album / "round")
    assert_finds(album, ["round/x.png"], ["round/x.png"])  # for the reader to report


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(album):
    write_bytes(album / "img[1].png", b"x")
    assert_finds(album, ["img[1].png"], ["img[1].png"])


def test_files_that_do_not_exist_are_returned_for_the_reader_to_report(album):
    assert_finds(album, ["gone.jpg", "a.png"], ["gone.jpg", "a.png"])
    assert find_images(["x" * 5000]) == [Path("x" * 5000)]


@pytest.mark.parametrize(
    ("source", "what"),
    [("empty", "empty: no picture in this folder"), ("*.gif", r"\*.gif: no picture in this pattern")],
)
def test_a_folder_or_pattern_without_pictures_says_which_and_what_counts(album, source, what):
    with pytest.raises(ImageError, match=rf"{what}; files with these endings count: \.jpg \.jpeg .*\.tif"):
        find_images([album / "a.png", album / source])


@pytest.mark.parametrize("sources", [[], (), "a.png", Path("a.png"), None, 3, [None], b"a.png"])
def test_no_list_of_sources_is_refused(sources):
    with pytest.raises(OptionError, match="sources: expected a list of at least one file, folder or pattern"):
        find_images(sources)


def test_a_folder_that_cannot_be_listed_says_so(album, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageError, match=r"empty: cannot be listed \(Permission denied\); check its rights"):
        find_images([album / "empty"])


def test_suffixes_that_count_belong_to_formats_that_are_read():
    extensions = Image.registered_extensions()
    # MPO files are opened by the JPEG reader
    assert {extensions[suffix] for suffix in IMAGE_SUFFIXES} <= {*_FORMATS, "MPO"}


# --- resizing


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
@pytest.mark.parametrize("image_hw", [(5, 9), (1, 1), (40, 3), (16, 24)])
def test_resizing_gives_the_size_asked_for_in_rows_and_columns(resize, image_hw):
    image = resize(PICTURE, image_hw)
    assert image.shape == (*image_hw, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
def test_resizing_to_the_same_size_copies(resize):
    image = resize(PICTURE, PICTURE.shape[:2])
    np.testing.assert_array_equal(image, PICTURE)
    assert not np.shares_memory(image, PICTURE)


def test_shrinking_averages_all_pixels_and_does_not_skip_any():
    stripes = np.zeros((1, 16, 3), np.uint8)
    stripes[:, ::4] = 200  # sampling two points of it would give 0 or 200
    for resize in (resize_bicubic, resize_bilinear):
        np.testing.assert_allclose(resize(stripes, (1, 2)).astype(int), 50, atol=8)


def bicubic_by_definition(row, size):
    """One row resized by Keys' kernel (a = -0.5) widened by the scale: Pillow's rule, in floats."""

    def kernel(x):
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    scale = len(row) / size
    stretch = max(scale, 1.0)
    out = []
    for place in range(size):
        center = (place + 0.5) * scale
        weights = np.array([kernel((at + 0.5 - center) / stretch) for at in range(len(row))])
        out.append(float((weights * row).sum() / weights.sum()))
    return np.array(out)


@pytest.mark.parametrize("width", [3, 7, 20, 31])
def test_bicubic_is_keys_kernel_widened_when_it_shrinks(width):
    row = np.random.RandomState(411).randint(60, 200, 12)  # away from 0 and 255: nothing is clipped
    image = resize_bicubic(np.dstack([row[None].astype(np.uint8)] * 3), (1, width))
    # Pillow's weights have 22 bits: half a level of rounding and a little
    np.testing.assert_allclose(image[0, :, 0], bicubic_by_definition(row, width), atol=0.51)


def test_resizing_takes_views_of_any_stride():
    np.testing.assert_array_equal(resize_bicubic(PICTURE[::-1, ::2], (16, 12)), PICTURE[::-1, ::2])


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
@pytest.mark.parametrize("image_hw", [(0, 4), (4,), (4, 4, 3), (4.0, 4), (-1, 4)])
def test_a_size_that_is_no_size_is_refused(resize, image_hw):
    with pytest.raises(OptionError, match=r"image_hw: expected \(height, width\), whole numbers of at least 1"):
        resize(PICTURE, image_hw)


def test_resizing_and_writing_refuse_what_is_no_rgb_image(tmp_path):
    for call in (
        lambda image: resize_bicubic(image, (2, 2)),
        lambda image: resize_bilinear(image, (2, 2)),
        lambda image: write_image(tmp_path / "x.png", image),
        encode_png,
    ):
        with pytest.raises(ShapeError, match="image: expected an RGB image"):
            call(GRAY)


# --- writing pictures


def test_an_encoded_png_is_the_file_that_would_be_written(tmp_path):
    write_image(tmp_path / "x.png", PICTURE)
    assert encode_png(PICTURE) == (tmp_path / "x.png").read_bytes()
    with Image.open(io.BytesIO(encode_png(PICTURE))) as decoded:
        np.testing.assert_array_equal(read_image(decoded), PICTURE)


def test_a_png_holds_the_picture_exactly_and_a_jpeg_nearly(tmp_path):
    write_image(tmp_path / "x.PNG", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "x.PNG"), PICTURE)
    for name in ("x.jpg", "x.jpeg"):
        write_image(tmp_path / name, PICTURE)
        with Image.open(tmp_path / name) as written:
            assert written.format == "JPEG"
        # flat blocks at quality 95 in full colour resolution
        np.testing.assert_allclose(read_image(tmp_path / name).astype(int), PICTURE, atol=4)


def test_a_jpeg_keeps_full_colour_resolution(tmp_path):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    write_image(tmp_path / "x.jpg", stripes)
    # halved colour resolution would mix them: errors of over 100
    np.testing.assert_allclose(read_image(tmp_path / "x.jpg").astype(int), stripes, atol=20)


def test_a_suffix_that_is_not_written_is_refused(tmp_path):
    for name in ("x.bmp", "x"):
        with pytest.raises(OptionError, match=r"path: expected a name that ends in .png, .jpg or .jpeg, got"):
            write_image(tmp_path / name, PICTURE)


def test_a_picture_too_long_for_jpeg_is_refused_and_fits_a_png(tmp_path):
    long = np.zeros((1, 65_501, 3), np.uint8)
    with pytest.raises(OptionError, match=r"JPEG holds 65500 pixels a side, got 65501 x 1; use PNG"):
        write_image(tmp_path / "long.jpg", long)
    write_image(tmp_path / "long.png", long)
    assert read_image(tmp_path / "long.png").shape == long.shape


def test_what_a_file_holds_reads_as_the_file_does_whatever_its_kind(tmp_path):
    for name in ("x.png", "x.jpg"):
        write_image(tmp_path / name, PICTURE)
        data = (tmp_path / name).read_bytes()
        assert (read_image(data) == read_image(tmp_path / name)).all()
    assert encode_jpeg(PICTURE) == data
    assert (read_image(encode_png(PICTURE)) == PICTURE).all()


def test_bytes_that_hold_no_picture_are_refused_without_a_name():
    with pytest.raises(ImageError, match=r"^image data: the file is empty \(0 bytes\)"):
        read_image(b"")
    with pytest.raises(ImageError, match=r"^image data: not an image that can be read"):
        read_image(b"hello")
    with pytest.raises(ImageError, match=r"^image data: .* over the limit of"):
        read_image(encode_png(PICTURE), max_pixels=1)


# --- label maps


def spectrum(count):
    return [(index % 256, index // 256, 7) for index in range(count)]


def png_header(path):
    """(bit depth, colour type) of a PNG: type 3 is palette, 0 grey."""
    data = path.read_bytes()
    assert data[12:16] == b"IHDR"
    return data[24], data[25]


@pytest.mark.parametrize(
    ("count", "labels", "header"),
    [
        (1, [[0, -1]], (8, 3)),
        (3, [[0, 1, 2, -1]], (8, 3)),
        (254, [[0, 253, -1]], (8, 3)),
        (255, [[0, 253, 254, -1]], (16, 0)),
        (256, [[254, 255, -1, 0]], (16, 0)),
        (300, [[0, 255, 256, 299, -1]], (16, 0)),
        (65534, [[65533, 0, -1]], (16, 0)),
        (0, [[-1, -1]], (8, 3)),
    ],
)
def test_labels_come_back_at_every_border_of_the_two_depths(count, labels, header, tmp_path):
    path = tmp_path / "labels.png"
    write_label_png(path, np.array(labels, np.int32), colors=spectrum(count))
    back = read_label_png(path)
    assert back.dtype == np.int32
    assert back.tolist() == labels
    assert png_header(path) == header


@pytest.mark.parametrize("count", [254, 300])
def test_every_class_index_comes_back(count, tmp_path):
    labels = np.arange(-1, count, dtype=np.int32)[None]
    write_label_png(tmp_path / "labels.png", labels, colors=spectrum(count))
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), labels)


@SMALL
@given(
    labels=hnp.arrays(
        st.sampled_from([np.int8, np.int32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"min_value": -1, "max_value": 2},
    ),
    count=st.sampled_from([3, 254, 255, 1000]),
)
def test_any_label_map_comes_back_whatever_its_dtype(labels, count, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.png"
    write_label_png(path, labels, colors=spectrum(count))
    np.testing.assert_array_equal(read_label_png(path), labels)


def test_the_palette_shows_every_class_in_its_color_and_unlabelled_in_black(tmp_path):
    write_label_png(tmp_path / "labels.png", np.array([[0, 1, 2, -1]]), colors=COLORS)
    assert read_image(tmp_path / "labels.png").tolist() == [[*map(list, COLORS), [0, 0, 0]]]
    with Image.open(tmp_path / "labels.png") as stored:
        assert np.array(stored).tolist() == [[0, 1, 2, 255]]


def test_unsigned_labels_are_written(tmp_path):
    write_label_png(tmp_path / "labels.png", np.array([[0, 2]], np.uint8), colors=COLORS)
    assert read_label_png(tmp_path / "labels.png").tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 1), np.int32), r"labels: expected an array of shape \(H, W\)"),
        (np.zeros((2, 2)), "labels: expected a numpy array of whole numbers.*float64; cast"),
        (np.zeros((2, 2), bool), "labels: expected a numpy array of whole numbers.*bool"),
        (np.zeros((0, 2), np.int32), "at least one pixel"),
        (np.array([[3]]), "labels: expected values from -1 to 2, got 3 to 3; give a color for every class"),
        (np.array([[-2, 0]]), "labels: expected values from -1 to 2, got -2 to 0"),
    ],
)
def test_labels_that_fit_no_png_are_refused(labels, message, tmp_path):
    with pytest.raises(ShapeError, match=message):
        write_label_png(tmp_path / "labels.png", labels, colors=COLORS)
    assert not (tmp_path / "labels.png").exists()


@pytest.mark.parametrize("color", [(1, 2), (1, 2, 256), (0, 0, -1), (0.5, 0, 0)])
def test_a_color_out_of_range_is_refused(color, tmp_path):
    with pytest.raises(OptionError, match=r"colors: expected \(red, green, blue\), whole numbers from 0 to 255, got"):
        write_label_png(tmp_path / "labels.png", np.array([[0]]), colors=[color])


def test_more_classes_than_a_png_can_hold_are_refused(tmp_path):
    with pytest.raises(OptionError, match="colors: a 16-bit PNG holds 65534 classes, got 65535; split them"):
        write_label_png(tmp_path / "labels.png", np.array([[0]]), colors=[(0, 0, 0)] * 65_535)


@pytest.mark.parametrize(
    ("builder", "mode"),
    [(odd_images.rgb_png, "RGB"), (odd_images.alpha_png, "RGBA"), (odd_images.gray_alpha_png, "LA")],
)
def test_a_colour_picture_is_not_a_label_map(builder, mode, tmp_path):
    message = f"expected a label map, a palette or grey PNG, got PNG with pixels of {mode}; a colour picture"
    with pytest.raises(ImageError, match=message):
        read_label_png(builder(tmp_path))


def test_a_truncated_label_map_is_refused(tmp_path):
    path = odd_images.sixteen_bit_png(tmp_path)
    write_bytes(path, path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"gray16\.png: the image data is truncated or damaged"):
        read_label_png(path)


def test_a_lossy_file_is_not_a_label_map(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "labels.jpg")
    with pytest.raises(ImageError, match="got JPEG with pixels of L; a colour picture or a lossy format"):
        read_label_png(tmp_path / "labels.jpg")


def test_label_files_of_other_tools_are_read(tmp_path):
    np.testing.assert_array_equal(read_label_png(odd_images.palette_png(tmp_path)), INDICES)
    np.testing.assert_array_equal(read_label_png(odd_images.gray_png(tmp_path)), GRAY)
    np.testing.assert_array_equal(read_label_png(odd_images.one_bit_png(tmp_path)), GRAY > 100)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_indices_of_few_bits_are_not_spread_over_eight(depth, tmp_path):
    indices = np.arange(2**depth)
    bits = "".join(f"{index:0{depth}b}" for index in indices).ljust(8, "0")
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(indices), 1, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", odd_images.zlib.compress(b"\0" + row)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(odd_images._chunk(*part) for part in parts)
    write_bytes(tmp_path / "few.png", data)
    assert read_label_png(tmp_path / "few.png").tolist() == [indices.tolist()]


# --- all writers


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


def test_no_writer_leaves_a_torn_file_when_the_disk_is_full(write, tmp_path, monkeypatch):
    (tmp_path / "out.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=r"out.png: cannot be written, No space left on device; choose another place"):
        write(tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"old"


def test_every_writer_says_when_a_file_stands_in_the_way_of_the_folder(write, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "out.png", tmp_path / "file" / "deeper" / "out.png"):
        with pytest.raises(OutputError, match=r"out.png: cannot be written, a file stands where its folder"):
            write(path)


def test_every_writer_says_when_the_target_is_a_folder(write, tmp_path):
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OutputError, match=r"out.png: cannot be written, it is a folder; give a file name") as caught:
        write(tmp_path / "out.png")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_every_writer_says_when_it_may_not_write(write, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # the tests may run as root, whom no file mode stops
    with pytest.raises(OutputError, match=r"cannot be written, permission denied; choose a folder that you may"):
        write(tmp_path / "out.png")


def test_a_name_that_no_file_can_have_is_an_output_error(tmp_path):
    for name in ("null\0byte", "a" * 5000):
        with pytest.raises(OutputError, match="cannot be written"):
            write_bytes(tmp_path / name, b"")


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    write_bytes(tmp_path / "out.bin", b"old")

    def write_half():
        with fgseg._files.replacing(tmp_path / "out.bin") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"old"


def test_written_files_have_the_rights_of_any_other_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_text_is_utf_8_with_its_line_ends_and_never_fails_on_a_file_name(tmp_path):
    write_text(tmp_path / "a.txt", "é\n" + os.fsdecode(b"\xff.jpg"))
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n\\udcff.jpg"


@pytest.mark.parametrize("name", ["path", "file", "allow_pickle", "self", "a/b", "blue circle", "ü"])
def test_an_npz_holds_an_array_of_any_name(name, tmp_path):
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


# --- the builders themselves


def test_the_odd_files_are_the_same_every_time(tmp_path):
    (tmp_path / "other").mkdir()
    for builder in itertools.chain(WORKING.values(), [odd_images.huge_png_header, odd_images.truncated_jpeg]):
        assert builder(tmp_path).read_bytes() == builder(tmp_path / "other").read_bytes()


def test_all_errors_of_this_module_share_the_base():
    for error in (ImageError, OutputError, OptionError, ShapeError):
        assert issubclass(error, FgsegError)
