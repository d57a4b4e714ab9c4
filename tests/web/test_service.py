"""The service and its queue, without a server."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from random_images import random_image

from fgseg.errors import ImageError, OptionError, PromptError
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.web.html import timing_note
from fgseg.web.limits import BusyError, GoneError, LimitError, Limits, SegmentationRequest
from fgseg.web.service import SegmentationService, WorkQueue

REQUEST = SegmentationRequest(("red", "blue, navy"), ("green",), threshold=0.5)


def test_one_request_is_worked_on_one_waits_and_the_third_is_refused():
    queue, gate, done = WorkQueue(2), threading.Event(), []
    first = threading.Thread(target=lambda: queue.run(gate.wait))
    second = threading.Thread(target=lambda: queue.run(lambda: done.append(threading.current_thread().name)))
    first.start()
    second.start()
    while queue._room._value:  # until both are in the room
        time.sleep(0.001)
    with pytest.raises(BusyError, match="the server is busy with 2 requests; try again in a moment"):
        queue.run(lambda: None)
    assert not done
    gate.set()
    first.join()
    second.join()
    assert queue.run(lambda: threading.current_thread().name) == done[0]
    queue.close()


def test_work_that_fails_frees_its_place_in_the_queue():
    queue = WorkQueue(1)
    for _ in range(3):
        with pytest.raises(KeyError, match="lost"):
            queue.run(lambda: {}["lost"])
    queue.close()


def test_new_prompts_do_not_encode_the_image_again(service, encodings):
    secret = service.open(encode_png(random_image()), "a.png")
    first = service.segment(secret, REQUEST)
    assert len(encodings) == 1
    assert first.milliseconds["encode"] > 0
    second = service.segment(secret, SegmentationRequest(("green", "striped"), mode="independent", threshold=0.4))
    assert (len(encodings), second.milliseconds["encode"]) == (1, 0.0)
    service.file(secret, "labels.png")
    assert len(encodings) == 1
    service.segment(secret, SegmentationRequest(("green",), resolution="squash"))
    service.segment(secret, SegmentationRequest(("red",), resolution="auto"))
    assert len(encodings) == 2


def test_the_result_is_that_of_the_segmenter(service, seg):
    image = random_image()
    request = SegmentationRequest(("red", "blue, navy"), ("green",), "independent", 0.45)
    shown = service.segment(service.open(encode_png(image), "a.png"), request)
    expected = seg.segment(image, ["red", "blue, navy"], negatives=["green"], mode="independent", threshold=0.45)
    assert (shown.preview.labels == expected.labels).all()
    assert shown.summary["classes"] == expected.to_dict()["classes"]
    assert shown.summary["regions"] == expected.to_dict()["regions"]


def test_specks_join_on_the_page_unless_they_are_kept(service):
    image = np.random.RandomState(731).randint(0, 256, (96, 96, 3)).astype(np.uint8)
    secret = service.open(encode_png(image), "a.png")
    request = SegmentationRequest(("red", "blue", "green"))
    joined, kept = (service.segment(secret, replace(request, specks=specks)) for specks in ("join", "keep"))
    assert joined.summary["settings"]["changed_pixels"] > 0
    assert kept.summary["settings"]["changed_pixels"] == 0
    assert len(kept.summary["regions"]) > len(joined.summary["regions"])
    assert "specks changed" in timing_note(joined)
    assert "the option Specks keeps them" in timing_note(joined)
    assert "specks" not in timing_note(kept)


def test_scores_at_a_point_and_in_a_box_come_from_the_score_maps(service):
    secret = service.open(encode_png(random_image()), "a.png")
    scores = service.segment(secret, REQUEST).preview.scores
    for name, (mean, peak) in service.score(secret, (0.5, 0.25, 0.5, 0.25)).items():
        assert mean == peak == pytest.approx(scores[name][10, 30])
    for name, (mean, peak) in service.score(secret, (0, 0, 0.5, 1)).items():
        left_half = scores[name][:, :30]
        assert (mean, peak) == (pytest.approx(left_half.mean()), pytest.approx(left_half.max()))


def test_downloads_come_from_the_full_result(service, seg, tmp_path):
    image = random_image()
    secret = service.open(encode_png(image), "photo.png")
    service.segment(secret, REQUEST)
    (tmp_path / "made.png").write_bytes(service.file(secret, "labels.png"))
    expected = seg.segment(image, ["red", "blue, navy"], negatives=["green"], threshold=0.5)
    assert (read_label_png(tmp_path / "made.png") == expected.labels).all()
    assert b'"file_name": "photo.png"' in service.file(secret, "coco.json")
    assert (read_image(service.file(secret, "overlay.png")) == expected.overlay()).all()
    service.sessions.view(secret, base="photo")
    assert (read_image(service.file(secret, "overlay.png")) == expected.overlay(base="photo")).all()
    assert service.file(secret, "regions.csv").startswith(b"class")
    assert [path.name for path in tmp_path.iterdir()] == ["made.png"]  # nothing is left behind
    with pytest.raises(GoneError, match=r"file: expected one of labels\.png"):
        service.file(secret, "../secrets")


def test_an_image_without_a_result_has_no_files_and_no_scores(service):
    secret = service.open(encode_png(random_image()), "a.png")
    for ask in (
        lambda: service.result(secret),
        lambda: service.file(secret, "labels.png"),
        lambda: service.score(secret, (0, 0, 1, 1)),
    ):
        with pytest.raises(GoneError, match="there is none yet; segment the image first"):
            ask()


def test_the_result_of_a_session_is_the_latest(service):
    secret = service.open(encode_png(random_image()), "a.png")
    for prompt in ("red", "blue"):
        made = service.segment(secret, SegmentationRequest((prompt,)))
        assert service.result(secret) is made


def test_images_over_the_limits_and_other_files_are_refused(seg, tmp_path):
    service = SegmentationService(seg, Limits(upload_bytes=50_000, pixels=2_000), tmp_path, {})
    with pytest.raises(ImageError, match=r"60 x 40 are 0\.0024 megapixels, over the limit of 0\.002"):
        service.open(encode_png(random_image()), "a.png")
    with pytest.raises(LimitError, match=r"image: expected a file of at most 0\.05 MB"):
        service.open(bytes(50_001), "a.png")
    with pytest.raises(ImageError, match="image data: not an image that can be read"):
        service.open(b"hello", "a.png")
    assert len(service.sessions) == 0


def test_wrong_requests_are_refused_before_any_work(service, encodings):
    secret = service.open(encode_png(random_image()), "a.png")
    for request, message in (
        (SegmentationRequest(()), "prompts: expected at least one, got none"),
        (
            SegmentationRequest(("red",), resolution="slide:4096/8/1"),
            "resolution: expected one of auto, squash, keep, slide",
        ),
    ):
        with pytest.raises(OptionError, match=message):
            service.segment(secret, request)
    with pytest.raises(PromptError, match="never seen the word 'xyzzy'"):
        service.segment(service.open(encode_png(random_image()), "a.png"), SegmentationRequest(("xyzzy",)))
