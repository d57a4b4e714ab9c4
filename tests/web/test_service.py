"""The service and its queue, without a server."""

import io
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from random_images import random_image
from tiny_models import tiny_guide

import fgseg
from fgseg.errors import ImageError, ModelNotFoundError, OptionError, PromptError
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.web import models
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
    assert service.file(secret, "regions.csv").startswith(b"class")
    assert [path.name for path in tmp_path.iterdir()] == ["made.png"]  # nothing is left behind
    with pytest.raises(GoneError, match=r"file: expected one of labels\.png"):
        service.file(secret, "../secrets")


def test_a_cutout_holds_the_full_image_inside_the_chosen_masks(service, seg):
    image = random_image()
    secret = service.open(encode_png(image), "photo.png")
    service.segment(secret, REQUEST)
    masks = seg.segment(image, ["red", "blue, navy"], negatives=["green"], threshold=0.5).masks
    for classes, mask in (((1,), masks["blue"]), ((1, 0, 1), masks["red"] | masks["blue"])):
        with Image.open(io.BytesIO(service.cutout(secret, classes))) as picture:
            cut = np.asarray(picture)
        assert (cut[..., 3] == 255 * mask).all()
        assert (cut[..., :3] == image * mask[..., None]).all()
    with pytest.raises(OptionError, match="classes: expected a class from 0 to 1, got 2"):
        service.cutout(secret, (0, 2))


def test_regions_below_the_smallest_area_are_dropped(service, seg):
    image = random_image()
    secret = service.open(encode_png(image), "a.png")
    result = service.segment(secret, SegmentationRequest(("red", "blue"), min_area=40))
    expected = seg.segment(image, ["red", "blue"], min_area=40)
    assert (result.preview.labels == expected.labels).all()
    assert (expected.labels != seg.segment(image, ["red", "blue"]).labels).any()
    with pytest.raises(OptionError, match="min_area: expected a whole number"):
        SegmentationRequest(("red",), min_area=-1)


def test_an_image_without_a_result_has_no_files_and_no_scores(service):
    secret = service.open(encode_png(random_image()), "a.png")
    for ask in (
        lambda: service.result(secret),
        lambda: service.file(secret, "labels.png"),
        lambda: service.cutout(secret, (0,)),
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
    with pytest.raises(ImageError, match=r"^a\.png: 60 x 40 are 0\.0024 megapixels, over the limit of 0\.002"):
        service.open(encode_png(random_image()), "a.png")
    with pytest.raises(LimitError, match=r"^b\.png: expected a file of at most 0\.05 MB"):
        service.open(bytes(50_001), "folder/b.png")
    with pytest.raises(ImageError, match=r"^c\.png: not an image that can be read"):
        service.open(b"hello", "c.png")
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


@pytest.mark.parametrize(
    "options",
    [
        {"propagate": "both"},
        {"guide": "self", "recipe": "proxy"},
        {"guide": "self", "recipe": "corr", "region_map": "superpixels", "vote": True},
        {"guide": "self", "propagate": "patches"},
        {"region_map": "superpixels", "vote": True, "mode": "independent"},
    ],
)
def test_sharper_results_are_those_of_the_segmenter(service, tiny_model, options):
    image, words = random_image(), ("red", "blue")
    shown = service.segment(service.open(encode_png(image), "a.png"), SegmentationRequest(words, **options))
    loaded = {name: options.get(name) for name in ("recipe", "guide") if name in options}
    how = {name: value for name, value in options.items() if name not in loaded}
    expected = fgseg.load(tiny_model, **loaded).segment(image, words, **how)
    assert (shown.preview.labels == expected.labels).all()
    assert shown.summary["classes"] == expected.to_dict()["classes"]


def test_features_are_kept_for_each_recipe_and_guide_and_for_the_regions_of_corr_alone(service, encodings):
    secret = service.open(encode_png(random_image()), "a.png")
    plain = SegmentationRequest(("red", "blue"))
    service.segment(secret, plain)
    for change in ({"propagate": "pixels"}, {"region_map": "superpixels", "vote": True}):
        assert service.segment(secret, replace(plain, **change)).milliseconds["encode"] == 0
    assert len(encodings) == 1
    for change in ({"recipe": "proxy"}, {"recipe": "corr"}, {"recipe": "corr", "region_map": "superpixels"}):
        guided = replace(plain, guide="self", **change)
        assert service.segment(secret, guided).milliseconds["encode"] > 0
        assert service.segment(secret, guided).milliseconds["encode"] == 0


def test_a_guide_that_is_not_on_this_machine_is_refused_offline_without_a_path(seg, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    service = SegmentationService(seg, Limits(), tmp_path, {}, offline=True)
    secret = service.open(encode_png(random_image()), "a.png")
    with pytest.raises(OptionError, match="guide: dino-b8 is not on this machine and could not be") as caught:
        service.segment(secret, SegmentationRequest(("red", "blue"), guide="dino-b8", recipe="proxy"))
    assert str(tmp_path) not in str(caught.value)
    service.queue.close()


def test_a_mask_model_that_cannot_be_loaded_is_named_without_a_path(service, monkeypatch):
    def fails(*_args, **_kwargs):
        raise ModelNotFoundError("/home/someone: no such model")

    monkeypatch.setattr("fgseg.guides.region_maps.predicted_segments", fails)
    secret = service.open(encode_png(random_image()), "a.png")
    with pytest.raises(OptionError, match="region_map: eomt could not be loaded") as caught:
        service.segment(secret, SegmentationRequest(("red", "blue"), region_map="eomt", vote=True))
    assert "/home" not in str(caught.value)


def test_a_model_without_guides_refuses_them_with_a_sentence():
    other = models.Models(SimpleNamespace(encoder=object()))
    assert other.segmenter(SegmentationRequest(("red",))) is other.started
    with pytest.raises(
        OptionError, match="guide: this model takes no guide and has one recipe; leave guide and recipe"
    ):
        other.segmenter(SegmentationRequest(("red",), guide="self", recipe="proxy"))


def test_a_guide_is_loaded_once_for_all_recipes(service, tmp_path, monkeypatch):
    folder, asked, load = tiny_guide(tmp_path / "guide"), [], models.with_guide

    def with_guide(encoder, guide, **options):
        asked.append(guide)
        made = load(encoder, folder if guide == "dino-s8" else guide, **options)
        made.guide.name = "dino-s8"
        return made

    monkeypatch.setattr(models, "with_guide", with_guide)
    monkeypatch.setattr(models.Models, "fetch", lambda *_: None)
    secret = service.open(encode_png(random_image()), "a.png")
    for recipe in ("proxy", "corr", "proxy"):
        service.segment(secret, SegmentationRequest(("red", "blue"), guide="dino-s8", recipe=recipe))
    assert asked[0] == "dino-s8"
    assert [guide.name for guide in asked[1:]] == ["dino-s8"]  # the guide itself, for the other recipe
