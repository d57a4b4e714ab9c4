"""Sessions of users, their limits, and previews of results."""

import numpy as np
import pytest
from random_images import random_image

from fgseg.errors import OptionError
from fgseg.images.writing import encode_png
from fgseg.web.limits import GoneError, Limits, SegmentationRequest
from fgseg.web.sessions import Session, Sessions, box_window, make_preview


def test_a_session_is_found_only_by_its_secret():
    sessions = Sessions(Limits())
    first, second = (sessions.add(Session(name, random_image(seed=seed))) for seed, name in enumerate("ab"))
    assert (sessions.get(first).name, sessions.get(second).name) == ("a", "b")
    assert len(first) >= 22
    assert first != second
    for wrong in (None, "", first[:-1], 7):
        with pytest.raises(GoneError, match="this image is not kept any longer; load it again"):
            sessions.get(wrong)


def test_the_least_recently_used_session_is_dropped_first():
    sessions = Sessions(Limits(pictures=2))
    first, second = sessions.add(Session("a", random_image())), sessions.add(Session("b", random_image()))
    sessions.get(first)
    third = sessions.add(Session("c", random_image()))
    assert [sessions.get(secret).name for secret in (first, third)] == ["a", "c"]
    with pytest.raises(GoneError):
        sessions.get(second)


def test_sessions_are_limited_in_bytes_but_the_newest_always_stays():
    size = random_image().nbytes
    sessions = Sessions(Limits(kept_bytes=2 * size))
    for _ in range(5):
        sessions.add(Session("small", random_image()))
    assert (len(sessions), sessions.nbytes) == (2, 2 * size)
    large = sessions.add(Session("large", random_image(400, 600)))
    assert len(sessions) == 1
    assert sessions.get(large).name == "large"


def test_an_idle_session_is_dropped():
    now = [0.0]
    sessions = Sessions(Limits(idle_seconds=60), clock=lambda: now[0])
    first = sessions.add(Session("a", random_image()))
    now[0] = 59
    sessions.get(first)
    now[0] = 120
    sessions.add(Session("b", random_image()))
    assert len(sessions) == 1
    with pytest.raises(GoneError):
        sessions.get(first)


@pytest.mark.parametrize(
    "ask",
    [
        lambda sessions, secret: sessions.get(secret),
        lambda sessions, secret: sessions.view(secret),
        lambda sessions, secret: sessions.view(secret, layer=0),
        lambda sessions, secret: sessions.claim(secret, "me"),
        lambda sessions, secret: sessions.replace(secret, Session("b", random_image())),
    ],
)
def test_an_idle_session_is_gone_even_if_no_other_session_was_used_since(ask):
    now = [0.0]
    sessions = Sessions(Limits(idle_seconds=10), clock=lambda: now[0])
    secret = sessions.add(Session("a", random_image()))
    now[0] = 10
    ask(sessions, secret)  # as long as the limit is not too long, and counts as used
    now[0] = 20
    ask(sessions, secret)
    now[0] = 30.5
    with pytest.raises(GoneError, match="this image is not kept any longer; load it again"):
        ask(sessions, secret)
    assert len(sessions) == 0


def test_using_a_session_drops_the_idle_sessions_of_others():
    now = [0.0]
    sessions = Sessions(Limits(idle_seconds=10), clock=lambda: now[0])
    idle, used = sessions.add(Session("a", random_image())), sessions.add(Session("b", random_image()))
    for now[0] in (8, 16):
        assert sessions.get(used).name == "b"
    assert (len(sessions), sessions.nbytes) == (1, random_image().nbytes)
    with pytest.raises(GoneError):
        sessions.get(idle)


def test_an_owner_has_one_session_and_it_is_dropped_when_the_owner_leaves():
    sessions = Sessions(Limits())
    first, second, other = (sessions.add(Session(name, random_image())) for name in "abc")
    sessions.claim(first, "me")
    sessions.claim(other, "you")
    sessions.claim(second, "me")
    with pytest.raises(GoneError):
        sessions.get(first)
    sessions.drop("me")
    with pytest.raises(GoneError):
        sessions.get(second)
    assert sessions.get(other).name == "c"
    with pytest.raises(GoneError):
        sessions.replace(first, Session("a", random_image()))


def test_the_size_of_a_session_includes_features_and_result(service):
    secret = service.open(encode_png(random_image()), "a.png")
    before = service.sessions.nbytes
    service.segment(secret, SegmentationRequest(("red", "blue")))
    grid = sum(w.grid.numel() * 4 for w in service.sessions.get(secret).encoded["auto", None, None, None].windows)
    assert service.sessions.nbytes == before + grid + 40 * 60 * (7 + 3 * 2)


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_the_preview_of_a_small_result_equals_the_result(seg, mode):
    result = seg.segment(random_image(), ["red", "blue"], mode=mode)
    copy = make_preview(result)
    assert (copy.labels == result.labels).all()
    for name in result.classes:
        assert (copy.masks[name] == result.masks[name]).all()
        # half precision: 11 bits
        np.testing.assert_allclose(copy.scores[name], result.scores[name], atol=5e-4)


def test_the_preview_of_a_large_result_is_shrunk_and_keeps_its_aspect(seg):
    result = seg.segment(random_image(30, 90), ["red", "blue"], mode="independent")
    copy = make_preview(result, max_side=45)
    assert copy.labels.shape == copy.image.shape[:2] == (15, 45)
    assert (copy.masks["red"] == result.masks["red"][1::2, 1::2]).all()
    assert copy.scores["red"].shape == (15, 45)


def test_a_point_is_one_pixel_and_a_box_is_all_pixels_it_touches():
    assert box_window((0.999, 1, 0.999, 1), (10, 20)) == (slice(9, 10), slice(19, 20))
    assert box_window((0.1, 0.0, 0.16, 1.0), (10, 20)) == (slice(0, 10), slice(2, 4))
    for wrong in ((0, 0, 1), (0.5, 0, 0.4, 1), (0, 0, 1, 1.1), ("0", 0, 1, 1), (0, float("nan"), 1, 1)):
        with pytest.raises(OptionError, match="box: expected left <= right"):
            box_window(wrong, (10, 20))
