"""Fetching models from a hub, with a small one on 127.0.0.1 that fails on demand."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import loopback_hub
import pytest
from huggingface_hub import constants
from safetensors.torch import save_file
from tiny_models import (
    CLIP,
    FG_CLIP,
    FG_CLIP_2,
    GOLDEN,
    assert_loads_as_the_golden,
    loaded,
    model_tensors,
    word_tokenizer,
)

from fgseg.commands.doctor import diagnose, model_list
from fgseg.encoders import hub as hub_module
from fgseg.encoders.checkpoint import MODELS, find_checkpoint
from fgseg.errors import ModelNotFoundError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def model(tmp_path):
    """A folder with plain CLIP, a tokenizer, and files that fgseg does not read."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / CLIP / name, folder)
    word_tokenizer(CLIP).save(str(folder / "tokenizer.json"))
    for name in ("pytorch_model.bin", "modeling_clip.py", "vocab.json", "tokenizer_config.json", "README.md"):
        (folder / name).write_text(f"{name}, which is not read")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch, model):
    """A hub with me/clip, an empty cache, and no waits between two tries."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 5)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.0)
    with loopback_hub.running() as server:
        point_to(server.endpoint, monkeypatch)
        server.add("me/clip", model, COMMIT)
        yield server


def point_to(endpoint, monkeypatch):
    """The hub's client takes the address of its hub from here."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def refusal(name="me/clip", error=ModelNotFoundError, **options):
    """The message of the error that loading raises."""
    with pytest.raises(error) as caught:
        loaded(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def storage():
    return Path(constants.HF_HUB_CACHE) / "models--me--clip"


def blob():
    return (storage() / "snapshots" / COMMIT / "model.safetensors").resolve()


def flip_byte(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


# what is fetched


def test_config_tokenizer_and_tensors_are_fetched_in_this_order_and_nothing_else(hub):
    encoder = assert_loads_as_the_golden("me/clip")
    assert (encoder.name, encoder.revision) == ("me/clip", COMMIT)
    fetched = [line.rpartition("/")[2] for line in hub.requests if line.startswith("GET") and "/api/" not in line]
    assert fetched == ["config.json", "tokenizer.json", "model.safetensors"]


def test_a_cached_model_does_not_ask_the_hub(hub):
    loaded("me/clip")
    hub.requests.clear()
    hub.fail(".", status=500)
    assert loaded("me/clip").revision == COMMIT
    assert loaded("me/clip", revision=COMMIT).revision == COMMIT
    assert loaded("me/clip", offline=True).revision == COMMIT
    assert hub.requests == []


def test_main_stays_the_commit_that_it_was_until_it_is_asked_for_by_name(hub, model):
    loaded("me/clip")
    hub.add("me/clip", model, LATER)
    assert loaded("me/clip").revision == COMMIT
    assert loaded("me/clip", revision="main").revision == LATER
    assert loaded("me/clip").revision == LATER


def test_a_branch_that_is_named_and_cached_is_used_with_a_warning_if_the_hub_fails(hub, caplog):
    loaded("me/clip", revision="main")
    hub.fail("/api/", status=500)
    assert loaded("me/clip", revision="main").revision == COMMIT
    assert "the hub fails at the moment (500)" in caplog.text
    assert "the copy in the cache is used" in caplog.text
    assert len(hub.asked_for("/api/models")) == 2  # it is not tried again and again


def test_a_tag_with_slashes_is_fetched_and_remembered(hub, model):
    hub.add("me/clip", model, COMMIT, "refs/pr/7")
    assert loaded("me/clip", revision="refs/pr/7").revision == COMMIT
    assert (storage() / "refs" / "refs" / "pr" / "7").read_text() == COMMIT


def test_shards_are_fetched_by_their_index(hub, model):
    names = sorted(model_tensors(CLIP))
    weight_map = {}
    for part, some in (("a", names[::2]), ("b", names[1::2])):
        save_file({name: model_tensors(CLIP)[name] for name in some}, model / f"{part}.safetensors")
        weight_map |= dict.fromkeys(some, f"{part}.safetensors")
    (model / "model.safetensors").unlink()
    (model / "other.safetensors").write_bytes(b"not named")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    hub.add("me/clip", model, COMMIT)
    assert_loads_as_the_golden("me/clip")
    assert not hub.asked_for("other.safetensors")
    hub.requests.clear()
    loaded("me/clip")
    assert hub.requests == []
    (storage() / "snapshots" / COMMIT / "b.safetensors").unlink()
    assert_loads_as_the_golden("me/clip")
    assert [line for line in hub.requests if "GET /cdn" in line] == []  # its blob is still there
    del hub.repositories["me/clip"].files["a.safetensors"]
    shutil.rmtree(storage())
    assert "names 'a.safetensors', which the hub does not have" in refusal()


def test_the_older_tokenizer_files_are_fetched_where_there_is_no_tokenizer_json(hub):
    del hub.repositories["me/clip"].files["tokenizer.json"]
    hub.repositories["me/clip"].files["merges.txt"] = b"#version: 0.2\n"
    find_checkpoint("me/clip")
    fetched = {line.rpartition("/")[2] for line in hub.requests if line.startswith("GET") and "/api/" not in line}
    assert fetched == {"config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "model.safetensors"}


def test_a_model_without_a_tokenizer_loads_and_is_used_without_a_hub(hub):
    for name in ("tokenizer.json", "vocab.json"):
        del hub.repositories["me/clip"].files[name]
    assert_loads_as_the_golden("me/clip")
    hub.fail(".", status=500)
    assert_loads_as_the_golden("me/clip")


# what is refused before the tensors


def test_a_model_of_another_kind_is_refused_before_its_tensors(hub):
    hub.repositories["me/clip"].files["config.json"] = b'{"model_type": "bert", "hidden_size": 768}'
    assert "got a model of type 'bert'" in refusal(error=WeightsError)
    assert not hub.asked_for("safetensors")


def test_pickles_are_not_fetched_and_the_error_says_where_safetensors_may_be(hub):
    del hub.repositories["me/clip"].files["model.safetensors"]
    message = refusal()
    assert "its weights are pickles only (pytorch_model.bin)" in message
    assert "--revision refs/pr/NUMBER" in message
    assert not hub.asked_for("pytorch_model")
    del hub.repositories["me/clip"].files["pytorch_model.bin"]
    assert "it has neither model.safetensors nor model.safetensors.index.json" in refusal()
    del hub.repositories["me/clip"].files["config.json"]
    assert "it has no config.json, so it is no CLIP" in refusal()


# failures

LOGIN = {"X-Error-Code": "GatedRepo"}
FAILURES = [
    ({"status": 401, "headers": LOGIN}, "its owner asks for a login; accept the terms at http://127.0.0.1:"),
    ({"status": 401}, "the hub has no model of this name, or it is private; correct the name"),
    ({"status": 403, "headers": {"X-Error-Message": "not yours"}}, "the hub forbids it (403: not yours); use a token"),
    ({"status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}, "lists a file that it does not have"),
    ({"status": 418}, "the hub answers 418; look at http"),
    ({"status": 500}, "the hub fails at the moment (500); run it again in a few minutes"),
    ({"status": 503}, "the hub fails at the moment (503)"),
]


@pytest.mark.parametrize("match", ["/api/models", "HEAD .*safetensors", "GET /cdn/"])
@pytest.mark.parametrize(("fault", "message"), FAILURES)
def test_each_status_has_a_sentence_of_its_own_wherever_it_comes(hub, match, fault, message):
    hub.fail(match, **fault)
    said = refusal()
    assert said.startswith("model me/clip: ")
    assert message in said
    assert len(said) < 300


@pytest.mark.parametrize("match", ["/api/models", "HEAD .*safetensors"])
@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"Retry-After": "3600"},
            "(429); run it again in 3600 seconds; with a login (`hf auth login`) more requests are",
        ),
        ({"RateLimit": '"api";r=0;t=90'}, "(429); run it again in 90 seconds"),
        ({}, "(429); run it again in a few minutes"),
    ],
)
def test_a_hub_that_is_asked_too_often_says_when_to_try_again(hub, match, headers, message):
    hub.fail(match, status=429, headers=headers)
    assert message in refusal()


def test_a_download_that_is_to_wait_for_an_hour_does_not_wait(hub):
    hub.fail("GET /cdn/", status=429, headers={"Retry-After": "3600"})
    assert "(429); run it again in 3601 seconds" in refusal()  # the hub's client adds one


def test_a_token_that_is_refused_is_named_and_one_without_access_too(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.fail(".", status=401, times=1)
    assert "the hub refuses your token (401), or has no such model; log in again" in refusal()
    hub.fail(".", status=403, headers=LOGIN)
    assert "its owner has not let your account in; accept the terms at" in refusal()


def test_a_fault_that_passes_is_waited_for(hub):
    hub.fail("HEAD .*config", status=503, times=1)
    hub.fail("/api/", status=429, headers={"Retry-After": "0"}, times=2)
    assert loaded("me/clip").revision == COMMIT


def test_an_unknown_model_or_revision_is_named(hub):
    assert refusal("me/none").startswith("model me/none: the hub has no model of this name")
    assert "model me/clip at v2: the hub has no revision 'v2'; leave revision out" in refusal(revision="v2")
    assert "not a hub id" in refusal("me/a--b")


def test_a_commit_that_fgseg_expects_and_that_is_gone_gives_way_to_main_with_a_warning(hub, model, caplog):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / FG_CLIP_2 / name, model)
    hub.add("qihoo360/fg-clip2-base", model, COMMIT)
    pinned = MODELS["fg-clip2-base"].revision
    assert loaded("fg-clip2-base").revision == COMMIT
    assert (
        f"the hub does not have commit {pinned}, which fgseg expects; the newest one, {COMMIT}, is used" in caplog.text
    )
    hub.requests.clear()
    assert loaded("fg-clip2-base").revision == COMMIT
    assert hub.requests == []


def test_a_named_model_is_fetched_at_its_pinned_commit(hub, model):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / FG_CLIP / name, model)
    pinned = MODELS["fg-clip-base"].revision
    hub.add("qihoo360/fg-clip-base", model, LATER, pinned).revisions[pinned] = pinned
    assert loaded("fg-clip-base").revision == pinned


def test_a_silent_hub_is_given_up_after_the_time_limit(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fail("/api/", delay=1.5)
    started = time.perf_counter()
    assert "did not answer within 0.2 seconds; run it again, or wait longer with HF_HUB_ETAG_TIMEOUT=60" in refusal()
    assert time.perf_counter() - started < 1.4


def test_a_hub_that_is_not_there_is_out_of_reach(hub, monkeypatch):
    point_to("http://127.0.0.1:9", monkeypatch)
    message = refusal()
    assert "the hub is out of reach and it is not in the cache (ConnectError at http://127.0.0.1:9: " in message
    assert "use the embedded model 'mini'" in message


def test_something_else_than_a_hub_is_called_so(hub):
    hub.fail("HEAD .*config", status=200)
    assert "is not a hub; correct HF_ENDPOINT" in refusal()


def test_a_download_that_breaks_off_is_resumed(hub):
    hub.fail("GET /cdn/", cut=300_000, times=1)
    assert_loads_as_the_golden("me/clip")
    assert len(hub.asked_for("GET /cdn/")) == 2


def test_a_file_of_another_size_than_promised_is_refused(hub):
    hub.fail("HEAD .*safetensors", grow=10)
    assert "the download broke off; run it again" in refusal()
    assert not list(storage().rglob("*.incomplete"))


def test_a_file_for_which_the_disk_has_no_room_is_refused_before_it_is_fetched(hub, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 100_000))
    message = refusal()
    assert "its files take 1 MB, and the disk of" in message
    assert "has 0 MB left; free some space" in message
    assert not hub.asked_for("/cdn/")


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "is full; free some space"), (errno.EACCES, "cannot write to /some/blob (Per")],
)
def test_what_the_disk_refuses_is_said(hub, monkeypatch, number, message):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "/some/blob")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert message in refusal()


def test_a_cache_that_cannot_be_written_is_said(hub, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    message = refusal()
    assert f"cannot write to {tmp_path / 'file'}" in message
    assert "HF_HOME=/other/folder" in message


def test_offline_mode_names_what_is_missing(hub, monkeypatch):
    assert "it is not in the cache, and offline mode is on; download it once" in refusal(offline=True)
    loaded("me/clip")
    blob().unlink()
    assert "only a part of it is in the cache" in refusal(offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "only a part of it is in the cache" in refusal()
    assert loaded("me/clip", offline=False).revision == COMMIT


def test_the_log_of_the_hubs_client_is_as_before(hub, caplog):
    logger = logging.getLogger("huggingface_hub")
    before = logger.handlers[:], logger.level, logger.propagate
    hub.fail("/api/", status=500)
    refusal()
    assert (logger.handlers, logger.level, logger.propagate) == before
    assert not caplog.records


# damaged files


def test_a_flipped_byte_in_the_cache_is_found_and_the_file_is_fetched_again(hub, caplog):
    loaded("me/clip")
    flip_byte(blob())
    assert_loads_as_the_golden("me/clip")
    assert f"{blob()}: its SHA-256 is " in caplog.text
    assert f"and it should be {blob().name[:12]}...; it is fetched again" in caplog.text


def test_a_damaged_file_is_refused_offline_with_the_folder_to_remove(hub):
    loaded("me/clip")
    flip_byte(blob())
    message = refusal(error=WeightsError, offline=True)
    assert message.startswith(f"{blob()}: its SHA-256 is ")
    assert f"remove the folder {storage()} and load it once with a network" in message


def test_a_file_that_arrives_damaged_is_fetched_once_more_and_then_refused(hub):
    hub.fail("GET /cdn/", flip=500_000, times=1)
    assert_loads_as_the_golden("me/clip")
    shutil.rmtree(storage())
    hub.fail("GET /cdn/", flip=500_000)
    assert "also after it was fetched again; run it again later" in refusal(error=WeightsError)


def test_a_file_that_cannot_be_fetched_again_stays_refused(hub):
    loaded("me/clip")
    flip_byte(blob())
    hub.fail(".", status=500)
    assert "the hub fails at the moment (500)" in refusal()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_broken_json_file_is_fetched_again_and_refused_offline(hub, name):
    loaded("me/clip")
    (storage() / "snapshots" / COMMIT / name).resolve().write_text('{"half": ')
    message = refusal(error=WeightsError, offline=True)
    assert name in message
    assert f"remove the folder {storage()} and load it once with a network" in message
    assert loaded("me/clip").encode_texts(["red cup"]).shape[0] == 1


def test_a_broken_index_is_fetched_again(hub, model):
    (model / "model.safetensors").rename(model / "one.safetensors")
    weight_map = dict.fromkeys(model_tensors(CLIP), "one.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    hub.add("me/clip", model, COMMIT)
    loaded("me/clip")
    (storage() / "snapshots" / COMMIT / "model.safetensors.index.json").resolve().write_text("{}")
    assert "index.json: it is damaged, and offline mode is on" in refusal(error=WeightsError, offline=True)
    assert_loads_as_the_golden("me/clip")


def test_doctor_reads_the_files_again_and_names_the_damaged_one(hub):
    loaded("me/clip")
    assert diagnose("me/clip", device="cpu", dtype="auto")["problems"] == []
    stat = blob().stat()
    flip_byte(blob())
    os.utime(blob(), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (problem,) = diagnose("me/clip", device="cpu", dtype="auto")["problems"]
    assert problem.startswith(f"{blob()}: its SHA-256 is ")
    assert problem.endswith("it is fetched again when the model is loaded with a network")


def test_listing_the_models_reads_no_weights_and_asks_no_hub(hub):
    assert len(model_list()) == len(MODELS)
    assert hub.requests == []


# on a terminal


def test_progress_is_told_the_steps_and_the_megabytes(hub):
    hub.repositories["me/clip"].files["config.json"] += b" " * 3_000_000
    told = []
    loaded("me/clip", progress=lambda *step: told.append(step))
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps[:4] == [
        "asking the hub for its files", "downloading config.json (MB)", "downloading tokenizer.json (MB)",
        "downloading model.safetensors (MB)",
    ]  # fmt: skip
    assert ("downloading config.json (MB)", 3, 3) in told
    assert told[-1][1] == told[-1][2]


def run_command(hub, tmp_path, *words, **options):
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "FGSEG_CACHE": str(tmp_path / "texts"),
    }  # fmt: skip
    command = [sys.executable, "-m", "fgseg", "rank", str(tmp_path / "a.png"), "-p", "red cup", "--model", "me/clip"]
    return subprocess.Popen(
        [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell starts its background jobs, such as a whole test run, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
    )  # fmt: skip


def test_ctrl_c_ends_a_download_at_once_with_status_130(hub, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    hub.fail("GET /cdn/", delay=40)
    with run_command(hub, tmp_path) as process:
        for _ in range(600):
            if hub.asked_for("GET /cdn/"):
                break
            process.poll()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "fgseg: interrupted\n"
    assert not list((tmp_path / "home").rglob("*.incomplete"))
