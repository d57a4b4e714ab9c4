"""The work behind the page: limits, turns, desks, the bench and the page's actions, without a server."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import fgseg
from fgseg.errors import ImageError, OptionError, PromptError
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.web.events import Actions, Form
from fgseg.web.examples import examples, suited
from fgseg.web.limits import Asked, BusyError, GoneError, LimitError, Limits, explain, prompt_lines, status_of
from fgseg.web.service import FILES, SegmentationService, WorkQueue
from fgseg.web.sessions import MASKS, Session, Sessions, box_window, screen_copy

FORM = Form("red\nblue, navy", "green", "exclusive", 0.5, 0.5, "auto")


def picture(height=40, width=60, seed=5):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def seg(tiny_model):
    return fgseg.load(tiny_model)


@pytest.fixture
def bench(seg, tmp_path):
    made = SegmentationService(seg, Limits(), tmp_path, examples())
    yield made
    made.turns.close()


@pytest.fixture
def encodings(bench, monkeypatch):
    """A list that grows by one at each encoding of a picture."""
    encoder, counted = bench.segmenter.encoder, []
    encode = encoder.encode_images

    def counting(*args, **kwargs):
        counted.append(1)
        return encode(*args, **kwargs)

    monkeypatch.setattr(encoder, "encode_images", counting)
    return counted


# --- limits


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(("red",) * 33), "prompts: expected at most 32, got 33; run the rest afterwards"),
        (Asked(("red",), ("blue",) * 33), "negatives: expected at most 32, got 33"),
        (Asked(("red", "b" * 201)), "prompts: expected at most 200 characters a line, got 201 in line 2"),
        (Asked((",".join("a" * 60),) * 3), r"prompts: expected at most 128 words with synonyms and negatives, got 180"),
    ],
)
def test_too_many_or_too_long_prompts_are_refused_in_words(asked, message):
    with pytest.raises(LimitError, match=message):
        Limits().check_asked(asked)


def test_prompts_at_the_limits_are_taken():
    Limits().check_asked(Asked(tuple("b" * 200 for _ in range(32)), ("a",) * 32))


def test_an_upload_over_the_limit_says_both_sizes():
    limits = Limits(upload_bytes=2_000_000)
    limits.check_upload(2_000_000)
    with pytest.raises(LimitError, match=r"image: expected a file of at most 2 MB, got 2\.1 MB; save it smaller"):
        limits.check_upload(2_100_000)


def test_a_limit_below_one_is_refused():
    with pytest.raises(OptionError, match="in_flight: expected a number from 1"):
        Limits(in_flight=0)


@pytest.mark.parametrize("options", [{"mode": "both"}, {"threshold": 1.5}, {"threshold": float("nan")}])
def test_what_is_asked_for_checks_itself(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Asked(("red",), **options)


def test_prompt_lines_drop_space_and_empty_lines_and_refuse_what_is_no_text():
    assert prompt_lines(" red \r\n\r\n blue, navy\n") == ("red", "blue, navy")
    with pytest.raises(OptionError, match="prompts: expected text, a prompt a line, got list"):
        prompt_lines(["red"])


# --- turns


def test_one_works_one_waits_and_the_third_is_told_to_come_back():
    turns, gate, done = WorkQueue(2), threading.Event(), []
    first = threading.Thread(target=lambda: turns.take(gate.wait))
    second = threading.Thread(target=lambda: turns.take(lambda: done.append(threading.current_thread().name)))
    first.start()
    second.start()
    while turns._room._value:  # until both are in the room
        time.sleep(0.001)
    with pytest.raises(BusyError, match="the server is busy with 2 requests; try again in a moment"):
        turns.take(lambda: None)
    assert not done
    gate.set()
    first.join()
    second.join()
    assert turns.take(lambda: threading.current_thread().name) == done[0]
    turns.close()


def test_work_that_fails_gives_its_turn_back():
    turns = WorkQueue(1)
    for _ in range(3):
        with pytest.raises(KeyError, match="lost"):
            turns.take(lambda: {}["lost"])
    turns.close()


# --- desks


def test_a_desk_is_found_by_its_secret_alone():
    desks = Sessions(Limits())
    first, second = (desks.add(Session(name, picture(seed=seed))) for seed, name in enumerate("ab"))
    assert (desks.get(first).name, desks.get(second).name) == ("a", "b")
    assert len(first) >= 22
    assert first != second
    for wrong in (None, "", first[:-1], 7):
        with pytest.raises(GoneError, match="this picture is not kept any longer; load it again"):
            desks.get(wrong)


def test_the_least_recently_used_desk_goes_first():
    desks = Sessions(Limits(pictures=2))
    first, second = desks.add(Session("a", picture())), desks.add(Session("b", picture()))
    desks.get(first)
    third = desks.add(Session("c", picture()))
    assert [desks.get(secret).name for secret in (first, third)] == ["a", "c"]
    with pytest.raises(GoneError):
        desks.get(second)


def test_desks_are_bounded_in_bytes_and_the_newest_stays_whatever_its_size():
    size = picture().nbytes
    desks = Sessions(Limits(kept_bytes=2 * size))
    for _ in range(5):
        desks.add(Session("small", picture()))
    assert (len(desks), desks.nbytes) == (2, 2 * size)
    large = desks.add(Session("large", picture(400, 600)))
    assert len(desks) == 1
    assert desks.get(large).name == "large"


def test_an_idle_desk_is_dropped():
    now = [0.0]
    desks = Sessions(Limits(idle_seconds=60), clock=lambda: now[0])
    first = desks.add(Session("a", picture()))
    now[0] = 59
    desks.get(first)
    now[0] = 120
    desks.add(Session("b", picture()))
    assert len(desks) == 1
    with pytest.raises(GoneError):
        desks.get(first)


@pytest.mark.parametrize(
    "ask",
    [
        lambda desks, secret: desks.get(secret),
        lambda desks, secret: desks.look(secret),
        lambda desks, secret: desks.look_at(secret, layer=0),
        lambda desks, secret: desks.claim(secret, "me"),
        lambda desks, secret: desks.replace(secret, Session("b", picture())),
    ],
)
def test_an_idle_desk_is_gone_when_it_is_asked_for_though_none_came_after_it(ask):
    now = [0.0]
    desks = Sessions(Limits(idle_seconds=10), clock=lambda: now[0])
    secret = desks.add(Session("a", picture()))
    now[0] = 10
    ask(desks, secret)  # as long as the limit is not too long, and counts as used
    now[0] = 20
    ask(desks, secret)
    now[0] = 30.5
    with pytest.raises(GoneError, match="this picture is not kept any longer; load it again"):
        ask(desks, secret)
    assert len(desks) == 0


def test_whoever_asks_for_a_desk_has_the_idle_ones_of_others_dropped():
    now = [0.0]
    desks = Sessions(Limits(idle_seconds=10), clock=lambda: now[0])
    idle, used = desks.add(Session("a", picture())), desks.add(Session("b", picture()))
    for now[0] in (8, 16):
        assert desks.get(used).name == "b"
    assert (len(desks), desks.nbytes) == (1, picture().nbytes)
    with pytest.raises(GoneError):
        desks.get(idle)


def test_a_new_picture_of_an_owner_takes_the_place_of_the_last_and_leaving_drops_it():
    desks = Sessions(Limits())
    first, second, other = (desks.add(Session(name, picture())) for name in "abc")
    desks.claim(first, "me")
    desks.claim(other, "you")
    desks.claim(second, "me")
    with pytest.raises(GoneError):
        desks.get(first)
    desks.leave("me")
    with pytest.raises(GoneError):
        desks.get(second)
    assert desks.get(other).name == "c"
    with pytest.raises(GoneError):
        desks.replace(first, Session("a", picture()))


def test_the_bytes_of_a_desk_count_features_and_result(bench):
    secret = bench.open(encode_png(picture()), "a.png")
    before = bench.desks.nbytes
    bench.segment(secret, FORM.asked())
    grid = sum(w.grid.numel() * 4 for w in bench.desks.get(secret).views["auto"].windows)
    assert bench.desks.nbytes == before + grid + 40 * 60 * (7 + 3 * 2)


# --- what is shown


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_a_screen_copy_of_a_small_result_is_the_result(seg, mode):
    result = seg.segment(picture(), ["red", "blue"], mode=mode)
    copy = screen_copy(result)
    assert (copy.labels == result.labels).all()
    for name in result.classes:
        assert (copy.masks[name] == result.masks[name]).all()
        # half precision: 11 bits
        np.testing.assert_allclose(copy.scores[name], result.scores[name], atol=5e-4)


def test_a_screen_copy_of_a_large_result_is_shrunk_and_keeps_its_shape(seg):
    result = seg.segment(picture(30, 90), ["red", "blue"], mode="independent")
    copy = screen_copy(result, max_side=45)
    assert copy.labels.shape == copy.image.shape[:2] == (15, 45)
    assert (copy.masks["red"] == result.masks["red"][1::2, 1::2]).all()
    assert copy.scores["red"].shape == (15, 45)


def test_a_point_is_a_pixel_and_a_box_is_what_it_touches():
    assert box_window((0.999, 1, 0.999, 1), (10, 20)) == (slice(9, 10), slice(19, 20))
    assert box_window((0.1, 0.0, 0.16, 1.0), (10, 20)) == (slice(0, 10), slice(2, 4))
    for wrong in ((0, 0, 1), (0.5, 0, 0.4, 1), (0, 0, 1, 1.1), ("0", 0, 1, 1), (0, float("nan"), 1, 1)):
        with pytest.raises(OptionError, match="box: expected left <= right"):
            box_window(wrong, (10, 20))


# --- the bench


def test_new_prompts_on_the_same_picture_do_not_encode_it_again(bench, encodings):
    secret = bench.open(encode_png(picture()), "a.png")
    first = bench.segment(secret, FORM.asked())
    assert (len(encodings), first.reused) == (1, False)
    assert first.milliseconds["encode"] > 0
    second = bench.segment(secret, Asked(("green", "striped"), mode="independent", threshold=0.4))
    assert (len(encodings), second.reused, second.milliseconds["encode"]) == (1, True, 0.0)
    bench.file(secret, "labels.png")
    assert len(encodings) == 1
    bench.segment(secret, Asked(("green",), resolution="squash"))
    bench.segment(secret, Asked(("red",), resolution="auto"))
    assert len(encodings) == 2


def test_the_bench_computes_what_the_segmenter_does(bench, seg):
    image = picture()
    asked = Asked(("red", "blue, navy"), ("green",), "independent", 0.45)
    shown = bench.segment(bench.open(encode_png(image), "a.png"), asked)
    expected = seg.segment(image, ["red", "blue, navy"], negatives=["green"], mode="independent", threshold=0.45)
    assert (shown.screen.labels == expected.labels).all()
    assert shown.summary["classes"] == expected.to_dict()["classes"]
    assert shown.summary["regions"] == expected.to_dict()["regions"]


def test_scores_at_a_point_and_in_a_box_are_those_of_the_score_maps(bench):
    secret = bench.open(encode_png(picture()), "a.png")
    scores = bench.segment(secret, FORM.asked()).screen.scores
    for found in bench.score(secret, (0.5, 0.25, 0.5, 0.25)):
        assert found.mean == found.peak == pytest.approx(scores[found.name][10, 30])
    for found in bench.score(secret, (0, 0, 0.5, 1)):
        part = scores[found.name][:, :30]
        assert (found.mean, found.peak) == (pytest.approx(part.mean()), pytest.approx(part.max()))


def test_downloads_are_those_of_the_whole_result(bench, seg, tmp_path):
    image = picture()
    secret = bench.open(encode_png(image), "photo.png")
    bench.segment(secret, FORM.asked())
    (tmp_path / "made.png").write_bytes(bench.file(secret, "labels.png"))
    expected = seg.segment(image, ["red", "blue, navy"], negatives=["green"], threshold=0.5)
    assert (read_label_png(tmp_path / "made.png") == expected.labels).all()
    assert b'"file_name": "photo.png"' in bench.file(secret, "coco.json")
    assert (read_image(bench.file(secret, "overlay.png")) == expected.overlay()).all()
    assert bench.file(secret, "regions.csv").startswith(b"class")
    assert [path.name for path in tmp_path.iterdir()] == ["made.png"]  # nothing is left behind
    with pytest.raises(GoneError, match=r"file: expected one of labels\.png"):
        bench.file(secret, "../secrets")


def test_a_picture_without_a_result_has_no_files_and_no_scores(bench):
    secret = bench.open(encode_png(picture()), "a.png")
    for ask in (
        lambda: bench.shown(secret),
        lambda: bench.file(secret, "labels.png"),
        lambda: bench.score(secret, (0, 0, 1, 1)),
    ):
        with pytest.raises(GoneError, match="there is none yet; segment the picture first"):
            ask()


def test_what_is_shown_of_a_picture_is_its_last_result(bench):
    secret = bench.open(encode_png(picture()), "a.png")
    for prompt in ("red", "blue"):
        made = bench.segment(secret, Asked((prompt,)))
        assert bench.shown(secret) is made


def test_pictures_over_the_limits_and_files_that_are_none_are_refused(seg, tmp_path):
    bench = SegmentationService(seg, Limits(upload_bytes=50_000, pixels=2_000), tmp_path, {})
    with pytest.raises(ImageError, match=r"60 x 40 are 0\.0024 megapixels, over the limit of 0\.002"):
        bench.open(encode_png(picture()), "a.png")
    with pytest.raises(LimitError, match=r"image: expected a file of at most 0\.05 MB"):
        bench.open(bytes(50_001), "a.png")
    with pytest.raises(ImageError, match="image data: not an image that can be read"):
        bench.open(b"hello", "a.png")
    assert len(bench.desks) == 0


def test_requests_that_cannot_be_are_refused_before_any_work(bench, encodings):
    secret = bench.open(encode_png(picture()), "a.png")
    for asked, message in (
        (Asked(()), "prompts: expected at least one, got none"),
        (Asked(("red",), resolution="slide:4096/8/1"), "resolution: expected one of auto, squash, keep, slide"),
    ):
        with pytest.raises(OptionError, match=message):
            bench.segment(secret, asked)
    with pytest.raises(PromptError, match="never seen the word 'xyzzy'"):
        bench.segment(bench.open(encode_png(picture()), "a.png"), Asked(("xyzzy",)))


def test_every_example_is_a_picture_with_prompts_that_the_embedded_model_knows():
    seg = fgseg.load("mini")
    for name, example in examples().items():
        assert example.load().shape[2] == 3, name
        assert suited(seg, example), name


# --- actions of the page


@pytest.fixture
def actions(bench):
    return Actions(bench)


def opened(actions, form=FORM):
    secret = actions.bench.open(encode_png(picture()), "a.png")
    return actions.uploaded({"secret": secret}, form, "me")


def test_an_upload_shows_the_picture_and_its_result_where_there_are_prompts(actions):
    bare = opened(actions, replace(FORM, prompts=" "))
    assert bare.stage["src"].startswith("data:image/jpeg;base64,")
    assert (bare.stage["width"], bare.stage["height"], bare.note, bare.legend["rows"]) == (60, 40, "", [])
    made = opened(actions)
    assert [row["name"] for row in made.legend["rows"]] == ["red", "blue"]
    assert actions.bench.desks.look(made.secret).layer == MASKS
    assert "Encoding the picture" in made.note
    assert made.secret in made.downloads


def test_an_upload_with_prompts_that_fail_shows_the_picture_and_says_why(actions):
    update = opened(actions, replace(FORM, prompts="xyzzy"))
    assert update.stage is not None
    assert "never seen the word" in update.note
    assert 'role="alert"' in update.note


def test_running_again_says_that_the_features_were_kept(actions, encodings):
    first = opened(actions)
    again = actions.run(first.secret, replace(FORM, prompts="purple"))
    assert "kept from before, 0 ms" in again.note
    assert len(encodings) == 1
    assert again.stage["src"] != first.stage["src"]


def test_an_example_brings_its_prompts_but_not_over_the_users_own(actions):
    empty = replace(FORM, prompts="")
    update = actions.example({"name": "coffee.png"}, empty, "me")
    assert update.prompts == "red\nwhite\nbrown, tan"
    assert update.secret
    other = actions.example({"name": "chelsea.png"}, replace(FORM, prompts=update.prompts), "me")
    assert other.prompts == "orange, brown\npink\ngreen"
    own = actions.example({"name": "coffee.png"}, replace(FORM, prompts="purple"), "me")
    assert own.prompts == "purple"
    assert len(actions.bench.desks) == 1
    assert "example: expected one of coffee.png" in actions.example({"name": "/etc/passwd"}, FORM, "me").note


def test_a_layer_is_kept_while_the_prompts_are_and_a_mark_longer(actions):
    secret = opened(actions).secret
    actions.choose(secret, {"layer": 1}, 0.5)
    marked = actions.mark(secret, {"box": [0.5, 0.5, 0.5, 0.5]})
    assert marked.legend["where"] == "at 30, 20"
    assert marked.legend["isPoint"]
    assert marked.legend["layer"] == 1
    assert 0 <= marked.legend["rows"][0]["mean"] <= 1
    warmer = actions.refresh(secret, replace(FORM, threshold=0.4))
    assert (warmer.legend["layer"], warmer.legend["where"]) == (1, "at 30, 20")
    other = actions.run(secret, replace(FORM, prompts="purple"))
    assert (other.legend["layer"], other.legend["where"]) == (MASKS, "at 30, 20")
    cleared = actions.mark(secret, {"box": None})
    assert cleared.legend["where"] == ""
    assert cleared.legend["rows"][0]["mean"] is None
    box = actions.mark(secret, {"box": [0.0, 0.0, 0.5, 1.0]})
    assert box.legend["where"] == "from 0, 0 to 30, 39"
    assert not box.legend["isPoint"]


def test_a_point_and_a_layer_chosen_while_a_run_is_under_way_are_not_lost(actions, monkeypatch):
    secret, segment = opened(actions).secret, actions.bench.segment

    def meanwhile(*args):
        assert actions.mark(secret, {"box": [0.5, 0.5, 0.5, 0.5]}).legend["where"] == "at 30, 20"
        assert actions.choose(secret, {"layer": 1}, 0.5).legend["layer"] == 1
        return segment(*args)

    monkeypatch.setattr(actions.bench, "segment", meanwhile)
    answer = actions.refresh(secret, replace(FORM, threshold=0.4))
    assert (answer.legend["where"], answer.legend["layer"]) == ("at 30, 20", 1)
    assert actions.run(secret, replace(FORM, prompts="purple")).legend["layer"] == MASKS  # of other prompts


def test_opacity_draws_again_without_scoring_and_nothing_happens_before_a_result(actions, monkeypatch):
    secret = opened(actions).secret
    monkeypatch.setattr(actions.bench, "segment", None)
    assert actions.redraw(secret, 0.9).stage["src"] != actions.redraw(secret, 0.1).stage["src"]
    for nothing in (actions.redraw(None, 0.9), actions.refresh(None, FORM), actions.mark(None, {"box": None})):
        assert all(value is None for value in vars(nothing).values())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda a: a.run(None, FORM), "image: expected a picture, got none; drop one, paste one, or choose"),
        (lambda a: a.run("gone", FORM), "this picture is not kept any longer; load it again"),
        (lambda a: a.uploaded({"error": "too <large>"}, FORM, "me"), "too &lt;large&gt;"),
        (lambda a: a.uploaded({"secret": "guessed"}, FORM, "me"), "not kept any longer"),
        (lambda a: a.mark(None, {"box": [0, 0, 0, 0]}), "Write prompts and press Segment first"),
        (lambda a: a.choose(opened(a).secret, {"layer": 9}, 0.5), "layer: expected a class from 0 to 1, got 9"),
        (lambda a: a.choose(opened(a).secret, {"layer": "x"}, 0.5), "layer: expected a number"),
        (lambda a: a.mark(opened(a).secret, {"box": "all"}), "box: expected four numbers"),
        (lambda a: a.run(opened(a).secret, replace(FORM, mode="both")), "mode: expected one of exclusive, independent"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_note_and_changes_nothing_else(actions, act, message):
    update = act(actions)
    assert message.replace("'", "&#x27;") in update.note
    assert all(value is None for name, value in vars(update).items() if name != "note")


def test_an_unexpected_error_shows_neither_trace_nor_path(actions, monkeypatch, caplog):
    secret = opened(actions).secret

    def broken(*_args, **_kwargs):
        raise FileNotFoundError("/home/someone/secret.bin")

    monkeypatch.setattr(actions.bench, "segment", broken)
    note = actions.run(secret, FORM).note
    assert "This did not work" in note
    assert "/home" not in note
    assert "Traceback" not in note
    assert "/home/someone/secret.bin" in caplog.text  # the log has it


def test_messages_of_ours_are_told_and_others_are_not():
    assert explain(PromptError("prompt 'x'")) == "prompt 'x'"
    assert "log" in explain(fgseg.WeightsError("/models/secret"))
    statuses = [status_of(e) for e in (LimitError(), BusyError(), GoneError(), ImageError(), KeyError())]
    assert statuses == [413, 503, 404, 400, 500]


def test_every_file_has_a_link_that_says_its_title():
    from fgseg.web.html import downloads

    links = downloads("s3cret")
    assert links.count("<a ") == len(FILES)
    for name, (_, _, title) in FILES.items():
        assert f'href="desk/s3cret/{name}" download="{name}">{title}</a>' in links


def test_prompts_are_text_on_the_page_whatever_they_hold(actions, monkeypatch):
    from fgseg.web.html import region_rows

    shown = actions.bench.segment(opened(actions).secret, FORM.asked())
    summary = dict(shown.summary)
    summary["regions"] = [{**summary["regions"][0], "class_name": "<script>alert(1)</script>"}]
    assert "<script>" not in region_rows(replace(shown, summary=summary))
    assert "No regions" in region_rows(replace(shown, summary={**summary, "regions": []}))
