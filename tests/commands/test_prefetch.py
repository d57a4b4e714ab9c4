"""Images that are encoded together, and files that are read in advance."""

import threading

import numpy as np
import pytest
import torch

import fgseg
from fgseg.commands import prefetch
from fgseg.commands.prefetch import Prefetcher
from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.images.reading import read_image, read_picture
from fgseg.images.writing import write_image
from fgseg.scenes.composition import scene

SIZES = ((48, 64), (64, 48), (48, 64), (80, 33), (48, 64))
SOON = 30  # seconds; long enough for a thread on a busy machine


@pytest.fixture(scope="module")
def seg():
    return fgseg.load("mini", dtype="float32", device="cpu")


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{index}.png" for index in range(len(SIZES))]
    for index, (path, image_hw) in enumerate(zip(made, SIZES, strict=True)):
        write_image(path, scene(index, image_hw).image)
    return made


def assert_same(view, expected, atol):
    assert (view.canvas_hw, view.boxes_xyxy, view.source) == (
        expected.canvas_hw,
        expected.boxes_xyxy,
        expected.source,
    )
    np.testing.assert_array_equal(view.image, expected.image)
    for window, plain in zip(view.windows, expected.windows, strict=True):
        torch.testing.assert_close(window.grid, plain.grid, atol=atol, rtol=0)


@pytest.mark.parametrize("resolution", ["squash", "keep", "slide:48/32/16"])
def test_images_encoded_together_equal_images_encoded_alone(seg, paths, resolution):
    for view, path in zip(seg.encode_batch(paths, resolution=resolution), paths, strict=True):
        assert_same(view, seg.encode(path, resolution=resolution), atol=1e-5)
        assert view.seconds > 0


def test_a_batch_accepts_arrays_and_refuses_wrong_images_and_resolutions(seg, paths, tmp_path):
    (view,) = seg.encode_batch([read_image(paths[0])])
    assert view.source is None
    with pytest.raises(OptionError, match="images: expected"):
        seg.encode_batch([])
    with pytest.raises(ImageError, match="no such file"):
        seg.encode_batch([paths[0], tmp_path / "gone.png"])
    with pytest.raises(OptionError, match="huge"):
        seg.encode_batch(paths, resolution="huge")


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_prefetched_files_equal_files_encoded_one_by_one(seg, paths, batch_size):
    views = Prefetcher(seg, paths, resolution="keep", batch_size=batch_size)
    for path in paths:
        exactly = 0 if batch_size == 1 else 1e-5
        assert_same(views.take(path), seg.encode(path, resolution="keep"), atol=exactly)


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_an_unreadable_file_raises_when_it_is_taken_and_the_others_work(seg, paths, batch_size):
    for broken in (paths[0], paths[3]):
        broken.write_bytes(b"no image")
    views = Prefetcher(seg, paths, batch_size=batch_size)
    for path in paths:
        if path in (paths[0], paths[3]):
            with pytest.raises(ImageError, match=path.name):
                views.take(path)
        else:
            assert views.take(path).source == str(path)


def test_any_error_of_the_reading_thread_is_raised_by_take(seg, paths, monkeypatch):
    def fail(path, **_):
        raise MemoryError(path.name)

    monkeypatch.setattr(prefetch, "read_picture", fail)
    with pytest.raises(MemoryError, match=r"0\.png"):
        Prefetcher(seg, paths).take(paths[0])


def test_an_error_of_a_batch_is_raised_for_each_of_its_files_only(seg, paths, monkeypatch):
    encode = seg.encode_batch

    def fail_once(images, **options):
        monkeypatch.setattr(seg, "encode_batch", encode)
        raise ShapeError("no room")

    monkeypatch.setattr(seg, "encode_batch", fail_once)
    views = Prefetcher(seg, paths, batch_size=2)
    for path in paths[:2]:
        with pytest.raises(ShapeError, match="no room"):
            views.take(path)
    assert views.take(paths[2]).together == 2


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3), np.uint8), "photo.png"])
def test_one_image_in_place_of_a_list_is_refused(seg, images):
    with pytest.raises(OptionError, match=r"images: expected a list of images, got .*; put it into a list"):
        seg.encode_batch(images)


def test_a_batch_accepts_an_iterator(seg, paths):
    assert [view.source for view in seg.encode_batch(iter(paths[:2]))] == [str(path) for path in paths[:2]]


class Recorder:
    """`read_picture` that records its calls and waits until it may continue."""

    def __init__(self):
        self.begun, self.more, self.free = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, path, **_):
        self.begun.append(path.name)
        self.more.release()
        assert self.free.acquire(timeout=SOON)
        return read_picture(path)

    def wait(self):
        assert self.more.acquire(timeout=SOON)
        return list(self.begun)


def test_exactly_one_file_is_read_in_advance(seg, paths, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(prefetch, "read_picture", recorder)
    views = Prefetcher(seg, paths)
    assert recorder.wait() == ["0.png"]  # before anything is asked
    recorder.free.release()
    views.take(paths[0])
    assert recorder.wait() == ["0.png", "1.png"]  # the caller has the first, and the second is being read
    recorder.free.release()
    views.take(paths[1])
    assert recorder.wait() == ["0.png", "1.png", "2.png"]
    recorder.free.release(len(paths))


def test_without_files_take_raises(seg):
    with pytest.raises(KeyError):
        Prefetcher(seg, []).take("any.png")


def test_bands_a_stretch_and_pixels_without_data_travel_with_a_prefetched_file(seg, paths, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    samples = np.full((32, 48, 1), 5, np.float32)
    samples[:4], samples[4:8] = np.nan, 9
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack")
    (view,) = [Prefetcher(seg, [tmp_path / "a.tif"], bands=(1,), stretch=(0, 100)).take(tmp_path / "a.tif")]
    assert (view.source, int(view.no_data.sum())) == (str(tmp_path / "a.tif"), 4 * 48)
    assert (view.reading["bands"], view.reading["levels"]) == ([1], [5, 9])
    views = Prefetcher(seg, [paths[0], tmp_path / "a.tif"], bands=(3, 2, 1))
    assert views.take(paths[0]).reading["bands"] == [3, 2, 1]
    with pytest.raises(ImageError, match=r"bands: expected numbers from 1 to 1 for .*a\.tif"):
        views.take(tmp_path / "a.tif")
