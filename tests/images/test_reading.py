"""Files, arrays and PIL images to RGB."""

import errno
import io
import itertools
import re
import struct
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import odd_images
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from odd_images import ALPHA, BLOCK_COLORS, BROKEN, GRAY, INDICES, PICTURE, WORKING
from PIL import Image, ImageFile

from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image, read_image_hw, read_picture
from fgseg.images.writing import encode_jpeg, encode_png, write_image

SMALL = settings(deadline=None, max_examples=60)


def gray_picture(gray):
    return np.dstack([gray] * 3)


def on_white(picture, alpha):
    """Composite by the definition, in floats."""
    share = alpha[:, :, None] / 255.0
    return picture * share + 255 * (1 - share)


def whitened(*, clear=None, half=None):
    """PICTURE with one block white and another half way to white."""
    out = PICTURE.astype(float)
    if clear is not None:
        out[clear == INDICES] = 255
    if half is not None:
        out[half == INDICES] = (out[half == INDICES] * 128 + 255 * 127) / 255
    return out


@pytest.mark.parametrize(
    "builder",
    [
        *(odd_images.rgb_png, odd_images.png_named_jpg, odd_images.cmyk_tiff, odd_images.palette_png),
        *(odd_images.sixteen_bit_rgb_png, odd_images.sixteen_bit_rgb_tiff),
        *(odd_images.animated_gif, odd_images.animated_webp),
    ],
)
def test_lossless_colour_files_of_every_kind_give_exactly_the_picture(builder, tmp_path):
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
def test_the_range_of_a_float_file_is_the_smallest_that_contains_its_values(top, tmp_path):
    np.testing.assert_array_equal(read_image(odd_images.float_tiff(tmp_path, top)), gray_picture(GRAY))


def test_a_32_bit_file_in_the_16_bit_range_keeps_its_high_byte(tmp_path):
    np.testing.assert_array_equal(read_image(odd_images.int32_tiff(tmp_path, 256)), gray_picture(GRAY))
    np.testing.assert_array_equal(read_image(odd_images.float_tiff(tmp_path, 255 * 256)), gray_picture(GRAY))


def test_an_int32_file_of_zeros_and_ones_is_not_stretched(tmp_path):
    Image.fromarray(np.array([[0, 1]], np.int32)).save(tmp_path / "mask.tif")
    assert read_image(tmp_path / "mask.tif")[0, :, 0].tolist() == [0, 1]


def test_a_cmyk_jpeg_and_a_lab_tiff_give_the_colours_of_the_picture(tmp_path):
    # JPEG at quality 100 of flat blocks: rounding of the colour transform only
    np.testing.assert_allclose(read_image(odd_images.cmyk_jpeg(tmp_path)).astype(int), PICTURE, atol=2)
    # 8-bit LAB has steps of a whole unit of a and b, up to 10 levels of the darkest channel
    np.testing.assert_allclose(read_image(odd_images.lab_tiff(tmp_path)).astype(int), PICTURE, atol=12)


def test_alpha_is_composited_on_white(tmp_path):
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
        (odd_images.exif_rotated_tiff, 0),  # Pillow turns this one itself; it must not be turned twice
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
def test_any_picture_stored_in_any_orientation_is_read_upright(upright, orientation):
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
def test_every_readable_kind_gives_the_same_from_a_path_a_string_and_an_open_pil_image(name, tmp_path):
    path = WORKING[name](tmp_path)
    image = read_image(path)
    assert image.shape == (16, 24, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable, "torch.from_numpy warns about read-only arrays"
    np.testing.assert_array_equal(read_image(str(path)), image)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_image(opened), image)


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


def test_the_current_frame_of_a_pil_image_is_read(tmp_path):
    with Image.open(odd_images.animated_gif(tmp_path)) as animation:
        animation.seek(1)
        assert read_image(animation).max() == max(BLOCK_COLORS[1][2])


def test_a_pil_image_is_checked_like_a_file(tmp_path):
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
def test_pixels_are_read_even_if_the_exif_is_damaged(tmp_path, suffix, exif, caplog):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(PICTURE).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(read_image(path), PICTURE)
    (message,) = caplog.messages
    assert re.match(rf".*x\.{suffix}: its EXIF cannot be read \(.+\); taken as upright$", message)


def test_a_limit_set_by_the_caller_is_reported_without_advice_to_make_tiles(tmp_path):
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


def test_arrays_are_scaled_by_the_documented_rules():
    wide = np.array([[[255, 256, 511]]], np.uint16)
    assert read_image(wide).tolist() == [[[0, 1, 1]]]  # the high byte
    # 127.5, 0.255 and 0.765 go to the nearest level, a tie to the even one
    assert read_image(np.array([[[0.5, 0.001, 0.003]]])).tolist() == [[[128, 0, 1]]]
    assert read_image(np.full((1, 1), 127.49 / 255, np.float32)).max() == 127  # half precision would say 128


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 1), (np.uint16, 257), (np.float64, 1 / 255)])
def test_an_rgba_array_of_any_dtype_is_composited_on_white(dtype, factor):
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
def test_reading_never_changes_the_given_array(source):
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
        (np.zeros((4, 4, 3), complex), r"source: expected whole numbers, floats or bool, got .*complex128; convert it"),
        (np.array([["a"]]), r"source: expected whole numbers, floats or bool, got .*<U1; convert it"),
        (np.array([[None]]), r"source: expected whole numbers, floats or bool, got .*object; convert it"),
        (np.full((4, 4), -0.01), r"source: values from -0.01 to -0.01 fit none of the ranges .*; rescale them"),
        (np.full((4, 4), 100_000), r"source: values from 100000 to 100000 fit none of the ranges"),
        ([[1, 2], [3]], r"source: list .* is no array of numbers \(.*\); convert it"),
        (np.array(5), r"source: expected \(H, W\)"),
        (None, r"source: expected a path, bytes, an array or a PIL image, got NoneType None"),
        ({"a": 1}, r"source: expected a path, bytes, an array or a PIL image, got dict"),
        (7, r"source: expected a path"),
    ],
)
def test_an_array_that_is_no_picture_is_refused_with_advice(source, message):
    with pytest.raises(ShapeError, match=message):
        read_image(source)


@pytest.mark.parametrize("max_pixels", [0, -1, "many", float("nan")])
def test_a_limit_below_one_pixel_is_refused(max_pixels):
    with pytest.raises(OptionError, match="max_pixels: expected a number"):
        read_image(PICTURE, max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (odd_images.missing_file, "there is no such file; check the path"),
        (odd_images.folder_named_jpg, "this is a folder, not a file; name a picture in it"),
        (odd_images.empty_file, r"the file is empty \(0 bytes\); copy or download it again"),
        (odd_images.text_file_named_jpg, "not an image that can be read.*save it as an ordinary JPEG"),
        (odd_images.postscript_file, r"a PostScript file; draw it first \(gs "),
        (odd_images.zero_size_gif, "not an image that can be read, or one without pixels"),
        (
            odd_images.huge_png_header,
            "20000 x 20000 are 400 megapixels, over the limit of 178.96; shrink it, or save it as a tiled TIFF",
        ),
    ],
)
def test_the_error_of_a_bad_file_is_one_line_with_its_name_the_fault_and_advice(builder, message, tmp_path):
    path = builder(tmp_path)
    for read in (read_image, read_label_png):
        with pytest.raises(ImageError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("builder", [odd_images.truncated_jpeg, odd_images.truncated_png])
def test_a_truncated_picture_is_refused_and_never_read_in_part(builder, tmp_path):
    path = builder(tmp_path)
    message = r"the image data is truncated or damaged \(.*truncated.*\); copy it or save it again"
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_every_broken_kind_of_file_is_refused(tmp_path):
    for builder in BROKEN.values():
        with pytest.raises(ImageError):
            read_image(builder(tmp_path))


def test_the_original_error_is_the_cause_of_the_image_error(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_image(odd_images.missing_file(tmp_path))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(ImageError) as caught:
        read_image(odd_images.truncated_jpeg(tmp_path))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_file_without_read_permission_is_an_image_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr(Path, "open", refuse)  # file modes do not stop root, who may run the tests
    with pytest.raises(ImageError, match=r"rgb.png: no permission to read it; check its permissions"):
        read_image(path)


@pytest.mark.parametrize("name", ["a" * 5000, "null\0byte.jpg"])
def test_a_name_that_no_file_can_have_is_an_image_error(name):
    with pytest.raises(ImageError, match=r"cannot be opened \(.+\); check the path"):
        read_image(name)


def test_the_error_of_a_name_with_line_ends_is_one_line(tmp_path):
    with pytest.raises(ImageError, match=r"two lines\.jpg: there is no such file"):
        read_image(tmp_path / "two\nlines.jpg")


@pytest.mark.parametrize(
    "error",
    [OSError("x"), SyntaxError("x"), ValueError("x"), struct.error("x"), EOFError(), KeyError("AVIF")],
)
def test_any_error_that_pillow_raises_while_decoding_becomes_an_image_error(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match=r"rgb.png: the image data is truncated or damaged \(.+\)") as caught:
        read_image(path)
    assert caught.value.__cause__ is error


def test_a_picture_that_does_not_fit_in_memory_is_an_image_error(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match="too large for the memory of this machine; shrink it"):
        read_image(path)


@pytest.mark.parametrize("name", sorted(WORKING))
def test_a_file_cut_at_any_place_gives_a_picture_or_an_image_error(name, tmp_path):
    whole = WORKING[name](tmp_path).read_bytes()
    cut = tmp_path / "cut"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata and raises an error as well
        for size in range(0, len(whole), max(1, len(whole) // 12)):
            cut.write_bytes(whole[:size])
            try:
                image = read_image(cut)
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017 - a picture is as right as an error
            else:
                assert image.shape[2] == 3


def test_the_limit_counts_the_pixels_of_the_header_and_is_inclusive(tmp_path):
    path = odd_images.rgb_png(tmp_path)
    assert read_image(path, max_pixels=24 * 16).shape == (16, 24, 3)
    with pytest.raises(ImageError, match=r"24 x 16 are 0.000384 megapixels, over the limit of 0.000383"):
        read_image(path, max_pixels=24 * 16 - 1)
    np.testing.assert_array_equal(read_image(PICTURE, max_pixels=1), PICTURE)  # arrays are not limited


@pytest.mark.parametrize("name", ["rgb_png", "sixteen_bit_rgb_tiff", "cmyk_tiff", "animated_gif"])
@pytest.mark.parametrize("pillow_limit", [300, 100])  # it warns over its limit and raises over twice of it
def test_pillows_own_limit_neither_warns_nor_refuses_and_is_restored(name, pillow_limit, tmp_path, monkeypatch):
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


def test_readers_in_several_threads_share_the_removed_limit(tmp_path, monkeypatch):
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


def test_the_bytes_of_a_file_are_read_like_the_file(tmp_path):
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


def test_the_odd_files_are_the_same_every_time(tmp_path):
    (tmp_path / "other").mkdir()
    for builder in itertools.chain(WORKING.values(), [odd_images.huge_png_header, odd_images.truncated_jpeg]):
        assert builder(tmp_path).read_bytes() == builder(tmp_path / "other").read_bytes()


@pytest.mark.parametrize("name", sorted(WORKING))
def test_the_size_of_a_file_is_that_of_the_picture_read_from_it(name, tmp_path):
    path = WORKING[name](tmp_path)
    assert read_image_hw(path) == read_image(path).shape[:2]


@pytest.mark.parametrize("builder", [odd_images.exif_rotated_jpeg, odd_images.exif_rotated_png])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_file_is_that_of_the_upright_picture(builder, orientation, tmp_path):
    assert read_image_hw(builder(tmp_path, orientation)) == PICTURE.shape[:2]


@pytest.mark.parametrize("options", [{"progressive": True}, {"comment": b"x" * 999}, {"quality": 5}])
def test_the_size_of_jpegs_of_other_kinds_is_read_too(options, tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("L" if "quality" in options else "CMYK", (9, 5)).save(path, **options)
    assert read_image_hw(path) == (5, 9)


def test_a_table_before_the_frame_of_a_jpeg_is_not_its_size(tmp_path):
    path = odd_images.exif_rotated_jpeg(tmp_path, 1)
    huffman = b"\xff\xc4\x00\x0a" + bytes([8, 0, 7, 0, 7, 3, 0, 0])
    path.write_bytes(path.read_bytes()[:2] + b"\xff" + huffman + path.read_bytes()[2:])  # a fill byte as well
    assert read_image_hw(path) == PICTURE.shape[:2]


@pytest.mark.parametrize("name", sorted(set(BROKEN) - {"truncated_jpeg", "truncated_png"}))
def test_the_size_of_a_file_that_is_no_picture_is_refused(name, tmp_path):
    with pytest.raises(ImageError):
        read_image_hw(BROKEN[name](tmp_path))


def test_the_size_of_a_file_cut_in_its_header_is_refused(tmp_path):
    png, jpeg = odd_images.rgb_png(tmp_path).read_bytes(), odd_images.exif_rotated_jpeg(tmp_path, 1).read_bytes()
    for data in (b"\xff", png[:20], jpeg[:30], jpeg[:2] + b"\xff", b"GIF89a", png[:16] + bytes(8) + png[24:]):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ImageError):
            read_image_hw(tmp_path / "a")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_reading_the_size_of_a_jpeg_or_png_decodes_no_pixels(suffix, tmp_path, monkeypatch):
    Image.fromarray(PICTURE).save(tmp_path / f"a.{suffix}")

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert read_image_hw(tmp_path / f"a.{suffix}") == PICTURE.shape[:2]


# --- values, near-arrays, and files that are not ours


def test_masked_elements_are_no_data_where_all_bands_are_masked(caplog):
    pixels = np.ma.masked_equal(np.array([[[0, 0, 0], [0, 200, 30]]], np.uint8), 0)
    picture = read_picture(pixels)
    assert picture.no_data.tolist() == [[True, False]]
    assert picture.rgb.tolist() == [[[255, 255, 255], [0, 200, 30]]]
    assert caplog.messages == ["source: 1 of 2 pixels have no data and stay unlabelled"]
    assert read_picture(np.ma.array(PICTURE)).no_data is None


GRAY_LIST = [[0, 7], [200, 255]]


def a_matrix(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy advises against matrices, but some packages return them
        return np.matrix(values, np.uint8)


class Table:
    """As a data frame: it has a shape and no dtype, and numpy reads it."""

    shape = (2, 2)

    def __array__(self, dtype=None, copy=None):
        return np.array(GRAY_LIST, np.int64)


@pytest.mark.parametrize(
    "source",
    [
        a_matrix(GRAY_LIST),
        np.ma.array(GRAY_LIST, dtype=np.uint8),
        memoryview(np.array(GRAY_LIST, np.uint8)),
        torch.tensor(GRAY_LIST, dtype=torch.uint8),
        torch.tensor(GRAY_LIST, dtype=torch.float32, requires_grad=True),
        GRAY_LIST,
        tuple(map(tuple, GRAY_LIST)),
        Table(),
        np.array(GRAY_LIST, np.int32),
        np.array(GRAY_LIST) / 255,
        np.array(GRAY_LIST, np.float64),
        (np.array(GRAY_LIST) * 257).astype(">u2"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_whatever_numpy_reads_as_numbers_is_a_picture(source):
    np.testing.assert_array_equal(read_image(source), gray_picture(np.array(GRAY_LIST)))


@pytest.mark.parametrize("source", [torch.tensor(GRAY_LIST, dtype=torch.bfloat16), object(), [PICTURE, PICTURE[:2]]])
def test_what_numpy_cannot_read_is_refused_in_our_words(source):
    with pytest.raises(ShapeError, match=r"^source: "):
        read_image(source)


def test_content_is_read_from_bytes_views_and_open_files(tmp_path):
    path = odd_images.rgb_png(tmp_path)
    data = path.read_bytes()
    with path.open("rb") as file:
        sources = [data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            np.testing.assert_array_equal(read_image(source), PICTURE)
    with pytest.raises(ImageError, match=r"image data: the open file cannot be read \(.*\); give its path"):
        read_image(file)
    with pytest.raises(ShapeError, match="expected a file opened for bytes, got str"):
        read_image(io.StringIO("text"))


def test_errors_of_numpy_that_a_user_turned_on_change_nothing():
    values = np.array([[0.2, np.nan, np.inf, 1e-300]])
    expected = read_picture(values)
    with np.errstate(all="raise"):
        found = read_picture(values)
        np.testing.assert_array_equal(read_picture(values, stretch=(1, 99)).no_data, found.no_data)
    np.testing.assert_array_equal(found.rgb, expected.rgb)


def test_16_bit_colour_of_a_png_keeps_its_values_for_a_stretch(tmp_path):
    wide = (PICTURE.astype(np.uint16) << 4) | 5
    cv2.imwrite(str(tmp_path / "a.png"), wide[:, :, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), wide >> 8)
    low, high = wide.min(), wide.max()
    expected = np.rint((wide.astype(float) - low) * 255 / (int(high) - int(low)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", stretch=(0, 100)), expected)


def test_a_stretch_and_bands_apply_to_every_kind_of_source(tmp_path):
    path = odd_images.rgb_png(tmp_path)
    stretched = read_image(PICTURE, stretch=(0, 100))
    assert (stretched.min(), stretched.max()) == (0, 255)
    with Image.open(path) as opened:
        for source in (path, path.read_bytes(), opened):
            np.testing.assert_array_equal(read_image(source, stretch=(0, 100)), stretched)
    np.testing.assert_array_equal(read_image(path, bands=(3, 2, 1)), PICTURE[:, :, ::-1])
    np.testing.assert_array_equal(read_image(np.dstack([PICTURE, GRAY, GRAY]), bands=(4,)), gray_picture(GRAY))
    picture = read_picture(path, bands=(3, 2, 1))
    assert read_picture(picture) is picture
    with pytest.raises(OptionError, match="a Picture has been read already"):
        read_image(picture, stretch=(2, 98))


@pytest.mark.parametrize("stretch", [(98, 2), (2,), "2,98", (-1, 50), (0, 101), (5, 5), 7, (float("nan"), 5)])
def test_a_stretch_is_two_percentiles(stretch):
    with pytest.raises(OptionError, match=r"^stretch: expected"):
        read_image(PICTURE, stretch=stretch)


FOREIGN = {
    "photo.heic": (b"\0\0\0\x18ftypheic" + bytes(20), "a HEIC photograph; pip install pillow-heif and call"),
    "clip.mp4": (b"\0\0\0\x18ftypisom" + bytes(20), "a video; take its frames out first"),
    "clip.mkv": (b"\x1a\x45\xdf\xa3" + bytes(20), "a video; take its frames out first"),
    "clip.avi": (b"RIFF\0\0\0\0AVI " + bytes(20), "a video; take its frames out first"),
    "scan.dcm": (bytes(128) + b"DICM" + bytes(9), "a DICOM file; pip install pydicom"),
    "light.exr": (b"v/1\x01" + bytes(20), "an OpenEXR file; tone-map it"),
    "a.jxl": (b"\xff\x0a" + bytes(20), "a JPEG XL file; save it as PNG"),
    "logo.svg": (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing; draw it first"),
    "photo.NEF": (b"MM\0*\0\0\0\x08" + bytes(20), "a raw photograph of a camera; develop it first"),
    "photo.raf": (b"FUJIFILMCCD-RAW " + bytes(20), "a raw photograph of a camera; develop it first"),
    "paper.pdf": (b"%PDF-1.7\n", "a PDF; draw its pages first"),
    "saved.jpg": (b"\n<!DOCTYPE html><html>404", "a web page or XML text, often an error page"),
    "a.npy": (b"\x93NUMPY" + bytes(20), "an array of numpy; np.load reads it"),
    "a.fits": (b"SIMPLE  =                    T", "a FITS file; read it with astropy"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_sound_file_that_is_not_read_here_is_called_what_it_is(name, tmp_path):
    data, message = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, data) if name != "photo.NEF" else (tmp_path / name,):
        with pytest.raises(ImageError, match=message):
            read_image(source)


def test_a_format_that_another_package_registers_is_read_from_paths_too(tmp_path, monkeypatch):
    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode, self.tile = (3, 2), "RGB", []

        def load(self):
            self.im = Image.new("RGB", self.size, (9, 8, 7)).im
            return Image.Image.load(self)

    (tmp_path / "photo.heic").write_bytes(FOREIGN["photo.heic"][0])
    monkeypatch.setitem(Image.OPEN, "HEIF", (Heif, lambda prefix: prefix[4:12] == b"ftypheic"))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    assert read_image(tmp_path / "photo.heic").tolist() == [[[9, 8, 7]] * 3] * 2


@pytest.mark.parametrize("name", ["https://example.org/a.jpg", "http:/example.org/a.jpg", "s3://bucket/a.tif"])
def test_a_web_address_is_refused_with_what_to_do(name):
    for source in (name, Path(name)):
        with pytest.raises(ImageError, match=r"://[\w./]+: web addresses are not read; download the file first"):
            read_image(source)


def test_a_file_is_found_by_either_unicode_form_of_its_name(tmp_path):
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    for stored, asked_for in ((composed, decomposed), (decomposed, composed)):
        folder = tmp_path / str(len(stored))
        folder.mkdir()
        Image.fromarray(PICTURE).save(folder / stored)
        np.testing.assert_array_equal(read_image(folder / asked_for), PICTURE)
