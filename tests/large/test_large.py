"""Images read by region: as the whole image in memory, bounded in what is held, clear about what cannot be read."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import assume, given, settings, strategies as st

import fgseg
from fgseg.commands import main as cli
from fgseg.errors import ImageError, OptionError, OutputError
from fgseg.images.reading import read_image
from fgseg.images.resizing import resize_image
from fgseg.large import strips as _strips
from fgseg.large.bands import Shrinker
from fgseg.large.plan import WindowPlan, plan_windows
from fgseg.large.result import segment_tiled
from fgseg.large.streamed_regions import StreamedRegions
from fgseg.large.strips import LabelRequest, label_strips
from fgseg.large.tiled_tiff import open_tiled, read_label_tiff, tiled_hw, write_label_tiff
from fgseg.prompts.classes import PromptClass, make_prompt_set
from fgseg.regions.table import region_table
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmentation.score_field import ScoreField
from fgseg.types import UNLABELLED, DenseFeatures

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed, *shape, dtype=np.uint8):
    """Random pixels in smooth blobs, so that classes have areas."""
    height, width = shape[:2]
    coarse = np.random.RandomState(seed).randint(0, 256, (-(-height // 4), -(-width // 4), *shape[2:]))
    pixels = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].astype(dtype)
    return pixels if dtype == np.uint8 else pixels * 257


def tiff(path, pixels, *, tile=(16, 32), **options):
    """A tiled TIFF, or one in strips with tile=None."""
    tifffile.imwrite(path, pixels, tile=tile, metadata=None, **options)
    return path


# --- an encoder whose features do not depend on what shares a batch, so that results can be equal to the bit


@dataclass
class MeanColors:
    """The mean colour of every patch of four pixels, as an encoder."""

    name: str = "mean-colors"
    revision: None = None
    recipe: None = None
    logit_scale: float = 20.0
    side: int = 16

    def encode_images(self, images, *, fit):
        assert fit == "exact"
        return [DenseFeatures(self._grid(image), image.shape[:2]) for image in images]

    def _grid(self, image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 128 - 1
        size = max(1, image.shape[0] // 4), max(1, image.shape[1] // 4)
        means = torch.nn.functional.adaptive_avg_pool2d(pixels, size)[0].permute(1, 2, 0)
        return torch.nn.functional.normalize(torch.cat([means, torch.ones(*size, 1)], dim=2), dim=2)


def task_of(seed, counts, *, rivals, threshold):
    """Random texts: `counts` words a class, `rivals` words that compete."""
    owners = [owner for owner, count in enumerate([*counts, rivals]) for _ in range(count)]
    text = torch.from_numpy(np.random.RandomState(seed).normal(size=(len(owners), 4)).astype(np.float32))
    prompts = tuple(
        PromptClass(f"class{owner}", tuple(f"word{owner}-{k}" for k in range(n))) for owner, n in enumerate(counts)
    )
    texts = PromptTexts(torch.nn.functional.normalize(text, dim=1), tuple(owners), ("{}",))
    return LabelRequest(prompts, texts, threshold)


def whole_result(image, plan, encoder, task, *, rivals):
    """Labels and presence as a Segmenter makes them of an image in memory."""
    canvas = resize_image(image, plan.canvas_hw, antialias=True)
    boxes = window_boxes(plan.canvas_hw, crop=plan.crop, stride=plan.stride)
    features = tuple(encoder.encode_images(crops(canvas, boxes), fit="exact"))
    view = EncodedImage(image, features, boxes, plan.canvas_hw, Resolution("slide"), encoder.name)
    asked = make_prompt_set(task.prompts, background=[f"rival{k}" for k in range(rivals)], default_background=())
    return ScoreField(view, task.texts, asked, logit_scale=encoder.logit_scale, refine="none").exclusive(task.threshold)


def bands_of(image, heights):
    """The image in bands of these heights, again and again."""
    top, turn = 0, 0
    while top < len(image):
        height = heights[turn % len(heights)]
        yield image[top : top + height]
        top, turn = top + height, turn + 1


@given(
    seed=SEEDS,
    canvas_hw=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    crop=st.integers(6, 18),
    stride=st.integers(2, 18),
    reduction=st.integers(1, 3),
    how=st.tuples(st.integers(3, 50), st.integers(0, 2), st.sampled_from([0.0, 0.5, 0.6])),
)
@settings(deadline=None, max_examples=60)
def test_strips_are_bit_for_bit_what_a_whole_image_gives(seed, canvas_hw, crop, stride, reduction, how):
    block, rivals, threshold = how
    plan = WindowPlan((canvas_hw[0] * reduction, canvas_hw[1] * reduction), reduction, crop, min(stride, crop))
    assume(plan.windows > 1)  # a single window is drawn on the image straight away when it is in memory
    image, encoder = noise(seed, *plan.image_hw, 3), MeanColors()
    task = task_of(seed, [1, 2, 1], rivals=rivals, threshold=threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_strips, "_BLOCK", block)
        patch.setattr(_strips, "_CHUNK_VALUES", 1500)
        heights = np.random.RandomState(seed).randint(1, 20, 3)
        strips = list(label_strips(bands_of(image, heights), encoder, task, plan))
    labels = np.concatenate([labels for labels, _ in strips])
    np.testing.assert_array_equal(labels, whole_result(image, plan, encoder, task, rivals=rivals))
    present = np.concatenate([present for _, present in strips])
    assert present.shape == labels.shape
    assert (present[labels != UNLABELLED] >= threshold).all()


def test_an_image_of_one_window_differs_from_memory_by_rounding_alone():
    plan, encoder = WindowPlan((14, 15), 1, 16, 8), MeanColors()
    image, task = noise(1, 14, 15, 3), task_of(1, [1, 1], rivals=1, threshold=0.5)
    ((labels, _),) = label_strips(iter([image]), encoder, task, plan)
    assert (labels == whole_result(image, plan, encoder, task, rivals=1)).mean() >= 0.99


def test_sides_that_the_reduction_does_not_divide_keep_their_last_pixels():
    plan, encoder = WindowPlan((37, 26), 4, 6, 3), MeanColors()
    image, task = noise(2, 37, 26, 3), task_of(2, [1, 1], rivals=1, threshold=0.0)
    assert plan.canvas_hw == (10, 7)
    labels = np.concatenate([labels for labels, _ in label_strips(iter([image]), encoder, task, plan)])
    padded = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")
    whole = WindowPlan((40, 28), 4, 6, 3)
    np.testing.assert_array_equal(labels, whole_result(padded, whole, encoder, task, rivals=1)[:37, :26])


@given(seed=SEEDS, hw=st.tuples(st.integers(1, 30), st.integers(1, 30)), factor=st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_rows_shrink_alike_in_any_bands(seed, hw, factor):
    image = noise(seed, *hw, 3)
    heights = np.random.RandomState(seed).randint(1, 9, 3)
    shrink = Shrinker(factor, hw[0])
    rows = np.concatenate([shrink.add(band) for band in bands_of(image, heights)])
    at_once = Shrinker(factor, hw[0]).add(image)
    np.testing.assert_array_equal(rows, at_once)
    assert rows.shape == (-(-hw[0] // factor), -(-hw[1] // factor), 3)


def test_windows_cover_the_canvas_and_what_cannot_be_planned_is_refused():
    plan = plan_windows((1000, 600), Resolution("slide", crop=200), native=224, reduction=2)
    assert (plan.canvas_hw, plan.crop, plan.stride) == ((500, 300), 200, 100)
    assert (plan.rows[-1], plan.columns) == ((300, 500), ((0, 200), (100, 300)))
    for resolution in (Resolution("keep"), Resolution("squash", 32), Resolution("slide", 448)):
        with pytest.raises(OptionError, match=r"resolution: .*own scale.*slide:auto/CROP/STRIDE.*--reduction"):
            plan_windows((10, 10), resolution, native=224)
    for reduction in (0, 1.5, "2"):
        with pytest.raises(OptionError, match="reduction: expected a"):
            plan_windows((10, 10), None, native=224, reduction=reduction)


def test_what_is_held_does_not_grow_with_the_height_of_the_image(monkeypatch):
    held, drawn, encoded = [], [], []
    stitch, labelled = _strips.stitch_chunks, _strips._labelled

    def spied_stitch(scores, boxes, canvas_hw, chunk):
        drawn.append(chunk * canvas_hw[0] * canvas_hw[1])
        return stitch(scores, boxes, canvas_hw, chunk)

    def spied_labelled(rows, *rest):
        held.append(len(rows))
        return labelled(rows, *rest)

    class Counting(MeanColors):
        def encode_images(self, images, *, fit):
            encoded.append(len(images))
            return super().encode_images(images, fit=fit)

    monkeypatch.setattr(_strips, "stitch_chunks", spied_stitch)
    monkeypatch.setattr(_strips, "_labelled", spied_labelled)
    monkeypatch.setattr(_strips, "_CHUNK_VALUES", 4096)
    monkeypatch.setattr(_strips, "_BLOCK", 32)
    monkeypatch.setattr(_strips, "_WINDOWS_AT_ONCE", 5)
    plan, asked = WindowPlan((160, 100), 1, 16, 8), []

    def bands():
        for band in bands_of(noise(3, 160, 100, 3), [16]):
            asked.append(len(band))
            yield band

    strips = label_strips(bands(), Counting(), task_of(3, [1] * 12, rivals=1, threshold=0.5), plan)
    next(strips)
    assert sum(asked) == 16  # nothing is read ahead of what the first strip needs
    list(strips)
    assert max(held) == 2  # rows of windows over a strip at half overlap
    assert max(drawn) <= 4096
    assert max(encoded) == 5


# --- connected parts


@given(
    seed=SEEDS, hw=st.tuples(st.integers(1, 12), st.integers(1, 12)), classes=st.integers(1, 3), density=st.floats(0, 1)
)
@settings(deadline=None, max_examples=100)
def test_parts_found_strip_by_strip_are_those_of_the_region_table(seed, hw, classes, density):
    rng = np.random.RandomState(seed)
    labels = np.where(rng.rand(*hw) < density, rng.randint(-1, classes, hw), 0).astype(np.int32)
    present = (rng.randint(0, 257, hw) / 256).astype(np.float32)  # sums of these are exact
    names = [f"class{index}" for index in range(classes)]
    parts, edges = StreamedRegions(hw[1], keep=1000), [0, *sorted(set(rng.randint(1, hw[0] + 1, 3))), hw[0]]
    for top, bottom in pairwise(dict.fromkeys(edges)):
        parts.add(labels[top:bottom], present[top:bottom])
    expected = region_table({name: labels == index for index, name in enumerate(names)}, dict.fromkeys(names, present))
    found = parts.table(names)
    assert [(part.class_name, part.box_xyxy, part.area, part.holes) for part in found] == [
        (part.class_name, part.box_xyxy, part.area, part.holes) for part in expected
    ]
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part.centroid_yx, other.centroid_yx, rtol=1e-12)
        assert (part.mean_score, part.peak_score) == pytest.approx((other.mean_score, other.peak_score), rel=1e-6)
    assert parts.total == len(expected)


def test_of_too_many_parts_the_largest_are_listed_and_all_are_counted():
    parts = StreamedRegions(9, keep=2)
    for length in (1, 4, 2, 5, 3):
        row = np.full((1, 9), UNLABELLED, np.int32)
        row[0, :length] = 0
        parts.add(np.concatenate([row, np.full_like(row, UNLABELLED)]), np.ones((2, 9), np.float32))
    assert [part.area for part in parts.table(["a"])] == [5, 4]
    assert parts.total == 5


# --- tiled TIFFs, read


@given(
    seed=SEEDS,
    hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile=st.sampled_from([(16, 16), (16, 48), (64, 32)]),
)
@settings(deadline=None, max_examples=40)
def test_bands_put_together_are_the_picture_whatever_its_size_and_tiles(seed, hw, tile, tmp_path_factory):
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
def test_a_tiled_tiff_that_is_stored_turned_comes_upright(orientation, tmp_path):
    path = tiff(tmp_path / "a.tif", noise(18, 40, 50, 3), photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    with open_tiled(path) as source:
        bands = list(source.bands())
        upright_hw = source.image_hw
    np.testing.assert_array_equal(np.concatenate(bands), read_image(path))
    assert upright_hw == tiled_hw(path) == ((50, 40) if orientation > 4 else (40, 50))
    assert len(bands) > 1


def test_colours_that_alpha_is_multiplied_into_are_laid_on_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:] = (100, 50, 0, 128)
    path = tiff(tmp_path / "a.tif", pixels, tile=(16, 16), photometric="rgb", extrasamples=["assocalpha"])
    with open_tiled(path) as source:
        (band,) = source.bands()
    assert band[0, 0].tolist() == [227, 177, 127]


def test_a_tile_that_was_left_out_is_empty_and_only_the_first_page_counts(tmp_path):
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


RGB = noise(20, 60, 70, 3)
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
def test_a_file_that_cannot_be_read_by_region_is_told_at_once_in_one_line(kind, tmp_path):
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


def test_a_damaged_tile_is_told_when_it_is_read(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    with open_tiled(path) as source, pytest.raises(ImageError, match=r"the TIFF is damaged .*copy it or save it again"):
        list(source.bands())


def test_what_is_no_tiled_tiff_has_no_tiled_size(tmp_path):
    assert tiled_hw(tiff(tmp_path / "strips.tif", RGB, tile=None, photometric="rgb")) is None
    assert tiled_hw(tmp_path / "missing.tif") is None
    (tmp_path / "text.tif").write_text("hello")
    assert tiled_hw(tmp_path / "text.tif") is None
    assert tiled_hw(tmp_path / "photo.png") is None


# --- tiled TIFFs, written


@given(seed=SEEDS, hw=st.tuples(st.integers(1, 300), st.integers(1, 300)), classes=st.sampled_from([1, 254, 255, 400]))
@settings(deadline=None, max_examples=20)
def test_labels_written_in_strips_come_back(seed, hw, classes, tmp_path_factory):
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


# --- the whole way


PLAN = WindowPlan((60, 70), 1, 16, 8)
COLOR_TASK = task_of(30, [1, 1, 1], rivals=1, threshold=0.5)


def test_the_summary_is_that_of_the_labels(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    seen = []
    with open_tiled(path) as source:
        result = segment_tiled(
            source, tmp_path / "labels.tif", MeanColors(), COLOR_TASK, PLAN, {}, lambda *rows: seen.append(rows)
        )
    labels = result.read_labels((0, 0, 70, 60))
    assert result.pixels == tuple(int((labels == index).sum()) for index in range(3))
    assert result.parts == len(result.regions) > 3
    assert sum(region.area for region in result.regions) == sum(result.pixels)
    np.testing.assert_array_equal(result.overview, RGB)
    np.testing.assert_array_equal(result.overview_labels, labels)
    assert seen[-1] == (60, 60)
    assert seen == sorted(set(seen))
    summary = json.loads(json.dumps(result.to_dict()))
    assert (summary["height"], summary["width"], summary["parts"]) == (60, 70, result.parts)
    assert "LargeSegmentation(60 x 70, 3 classes, found: class0" in repr(result)


def test_the_picture_that_is_kept_is_the_image_shrunk_and_its_labels_those_at_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr("fgseg.large.result.OVERVIEW_SIDE", 24)  # 70 pixels: every third
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    with open_tiled(path) as source:
        result = segment_tiled(source, tmp_path / "labels.tif", MeanColors(), COLOR_TASK, PLAN, {})
    labels = result.read_labels((0, 0, 70, 60))
    assert result.overview.shape == (20, 24, 3)
    np.testing.assert_array_equal(result.overview_labels[:, :23], labels[1::3, 1::3])
    means = RGB[:, :69].reshape(20, 3, 23, 3, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(result.overview[:, :23] - means).max() <= 0.5
    assert result.overlay().shape[0] > 20  # the legend is below or beside


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_whatever_ends_the_work_leaves_no_half_file(stop, tmp_path):
    path, out = tiff(tmp_path / "a.tif", RGB, photometric="rgb"), tmp_path / "out"

    def interrupt(done, total):
        if done > total // 2:
            raise stop

    with open_tiled(path) as source, pytest.raises(stop):
        segment_tiled(source, out / "labels.tif", MeanColors(), COLOR_TASK, PLAN, {}, interrupt)
    assert not list(out.iterdir())


def test_a_tile_that_is_damaged_midway_is_the_images_error_and_the_old_labels_stay(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    (tmp_path / "labels.tif").write_bytes(b"of before")
    with open_tiled(path) as source, pytest.raises(ImageError, match="damaged"):
        segment_tiled(source, tmp_path / "labels.tif", MeanColors(), COLOR_TASK, PLAN, {})
    assert (tmp_path / "labels.tif").read_bytes() == b"of before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "labels.tif"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    with open_tiled(path) as source, pytest.raises(OutputError, match=r"labels.tif: cannot be written, a file stands"):
        segment_tiled(source, path / "labels.tif", MeanColors(), COLOR_TASK, PLAN, {})


def test_a_segmenter_labels_a_tiled_file_as_it_does_the_image_in_memory(tiny_model, tmp_path):
    seg = fgseg.load(tiny_model, dtype="float32")
    image = noise(31, 72, 90, 3)
    path, prompts = tiff(tmp_path / "a.tif", image, photometric="rgb"), ["red", "blue, green", "striped"]
    large = seg.segment_large(path, prompts, tmp_path / "out" / "labels.tif")
    whole = seg.segment(image, prompts, resolution=Resolution("slide", 72, 32, 16), refine="none")
    # Windows share batches with others, and products of another batch round differently in the last bit.
    assert (large.read_labels((0, 0, 90, 72)) == whole.labels).mean() >= 0.999
    assert large.classes == whole.classes
    assert large.colors == whole.colors
    files = large.save(tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert sorted(file.name for file in files) == [
        "classes.json", "labels.tif", "overlay.png", "regions.csv", "regions.json", "run.json",
    ]  # fmt: skip
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["image"], run["image_hw"], run["windows"]) == (str(path), [72, 90], 20)
    assert run["seconds"] > 0
    whole.save(tmp_path / "whole")
    assert (tmp_path / "out" / "classes.json").read_text() == (tmp_path / "whole" / "classes.json").read_text()


def test_a_segmenter_refuses_what_needs_the_whole_image(tiny_model, tmp_path):
    seg = fgseg.load(tiny_model, dtype="float32")
    path, labels = tiff(tmp_path / "a.tif", RGB, photometric="rgb"), tmp_path / "labels.tif"
    with pytest.raises(OptionError, match=r'threshold: expected a number from 0 to 1.*"auto" needs the whole image'):
        seg.segment_large(path, ["red"], labels, threshold="auto")
    with pytest.raises(OptionError, match=r"resolution: .*own scale"):
        seg.segment_large(path, ["red"], labels, resolution="keep")
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"labels_path: .*a\.tif is the image itself; name another file"):
        seg.segment_large(path, ["red"], tmp_path / "out" / ".." / "a.tif")
    assert path.read_bytes() == before
    result = seg.segment_large(path, ["red"], labels)
    with pytest.raises(OptionError, match=r"formats.*expected one of labels, overlay, regions, got 'coco'"):
        result.save(tmp_path, formats=["coco"])


# --- the command line


@pytest.fixture
def command(capsys, monkeypatch, tmp_path, tiny_model):
    """Runs `fgseg segment` in an empty folder with the tiny model: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as left:
            cli.main(["segment", *map(str, words), "--model", tiny_model, "--dtype", "float32", "-o", "out"])
        return left.value.code, *capsys.readouterr()

    return run


def test_a_tiled_tiff_over_the_limit_is_read_by_region_and_smaller_images_as_ever(command, tmp_path, monkeypatch):
    monkeypatch.setattr("fgseg.images.reading.MAX_PIXELS", 4000)
    tiff(tmp_path / "big.tif", RGB, photometric="rgb")
    tiff(tmp_path / "small.tif", RGB[:40, :50], photometric="rgb")
    code, out, err = command("big.tif", "small.tif", "-p", "red", "-p", "blue", "--json")
    assert (code, err) == (0, "")
    big, small = map(json.loads, out.splitlines())
    assert (big["height"], big["width"], big["settings"]["read_by"]) == (60, 70, "region")
    assert "read_by" not in small["settings"]
    assert (tmp_path / "out" / "big" / "labels.tif").exists()
    assert (tmp_path / "out" / "small" / "labels.png").exists()
    assert [(tmp_path / file).exists() for file in big["files"]] == [True] * 6


def test_by_region_reads_any_tiled_tiff_so_and_names_each_file_that_is_none(command, tmp_path):
    tiff(tmp_path / "tiles.tif", RGB, photometric="rgb")
    tiff(tmp_path / "strips.tif", RGB, tile=None, photometric="rgb")
    code, out, err = command("strips.tif", "tiles.tif", "-p", "red", "--by-region", "--reduction", 2)
    assert code == 3
    assert err.splitlines() == [
        "fgseg: error: strips.tif: this TIFF is stored in strips, which cannot be read by region; "
        "save it as a tiled TIFF (vips tiffsave IN OUT.tif --tile --bigtiff)",
        "fgseg: 1 of 2 inputs failed",
    ]
    assert "tiles.tif" in out
    run = json.loads((tmp_path / "out" / "tiles" / "run.json").read_text())
    assert run["reduction"] == 2
    assert read_label_tiff(tmp_path / "out" / "tiles" / "labels.tif").shape == (60, 70)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "independent"], "--mode: a.tif is read by region, which excludes independent"),
        (["--refine", "guided"], "--refine: a.tif is read by region, which excludes guided"),
        (["--min-area", "50"], "--min-area: a.tif is read by region, which excludes 50"),
        (
            ["--threshold", "auto"],
            "--threshold: a.tif is read by region, which excludes auto; give a number",
        ),
        (["--format", "coco"], "formats (of an image read by region): expected one of labels, overlay, regions"),
        (
            ["--resolution", "keep"],
            "resolution: an image read by region is cut into windows at its own scale, got keep",
        ),
        (["--resolution", "slide:448"], "use auto, slide or slide:auto/CROP/STRIDE, and a reduction (--reduction)"),
    ],
)
def test_options_that_need_the_whole_image_are_refused_before_any_work(command, tmp_path, words, message):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    code, out, err = command("a.tif", "-p", "red", "--by-region", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"fgseg: error: {message}") or message in err
    assert not list((tmp_path / "out").iterdir())


def test_a_reduction_without_an_image_read_by_region_is_refused(command, tmp_path):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    code, _, err = command("a.tif", "-p", "red", "--reduction", 2)
    assert (code, err) == (
        2, "fgseg: error: --reduction: only images read by region are reduced; add --by-region or use --resolution\n",
    )  # fmt: skip


def test_ctrl_c_on_the_command_line_leaves_nothing_under_the_final_name(command, tmp_path, monkeypatch):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fgseg.large.strips.patch_scores", interrupted)
    code, out, err = command("a.tif", "-p", "red", "--by-region")
    assert (code, out, err) == (130, "", "fgseg: interrupted\n")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_ends_the_process_and_leaves_no_half_written_file(tmp_path, tiny_model):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    script = (
        "import os, signal\nfrom fgseg import __main__\nfrom fgseg.large import strips\n"
        "strips.patch_scores = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n__main__.main()"
    )
    words = ["segment", "a.tif", "-p", "red", "--by-region", "--model", str(tiny_model), "-o", "out", "-q"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, b"", b"")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def test_an_image_over_the_limit_that_is_no_tiled_tiff_says_how_to_make_it_one(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", RGB, tile=None, photometric="rgb")
    monkeypatch.setattr("fgseg.images.reading.MAX_PIXELS", 1000)
    message = (
        r"over the limit of 0\.001; shrink it, or save it as a tiled TIFF "
        r"\(vips tiffsave IN OUT\.tif --tile --bigtiff\), "
        r"which `fgseg segment` and Segmenter\.segment_large read by region"
    )
    with pytest.raises(ImageError, match=message):
        read_image(path, max_pixels=1000)


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
