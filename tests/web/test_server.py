"""The guard and routes of the server, the command `fgseg serve`, and sixteen users at once."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from pycocotools import mask as coco_rle
from starlette.applications import Starlette
from starlette.testclient import TestClient

import fgseg
from fgseg._files import temporary
from fgseg.images.writing import encode_png
from fgseg.web import server
from fgseg.web.examples import examples
from fgseg.web.limits import Limits, SegmentationRequest
from fgseg.web.middleware import check_host_names
from fgseg.web.routes import routes
from fgseg.web.server import application
from fgseg.web.service import SegmentationService, WorkQueue

ROOT = Path(__file__).parents[2]
HERE = "http://127.0.0.1"
PICTURE = np.random.RandomState(11).randint(0, 256, (40, 60, 3)).astype(np.uint8)
START_PATIENCE = 300  # seconds; a busy machine takes its time


@pytest.fixture(scope="module")
def service(tiny_model, tmp_path_factory):
    limits = Limits(upload_bytes=100_000, pixels=10_000)
    made = SegmentationService(fgseg.load(tiny_model), limits, tmp_path_factory.mktemp("web"), examples())
    yield made
    made.queue.close()


@pytest.fixture(scope="module")
def client(service, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        yield TestClient(application(service), base_url=HERE)


def ask(client, data=None, **fields):
    form = {"prompt": ["red", "blue, navy"], **fields}
    return client.post("/api/segment", files={"image": ("dir/photo.png", data or encode_png(PICTURE))}, data=form)


# --- the endpoint


# pycocotools meets numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_the_endpoint_answers_with_the_result_of_the_segmenter(client, tiny_model):
    told = ask(client, mode="independent", threshold="0.45", negative="green", box=["0,0,30,40", "5,5,5,5"]).json()
    seg = fgseg.load(tiny_model)
    result = seg.segment(PICTURE, ["red", "blue, navy"], negatives=["green"], mode="independent", threshold=0.45)
    assert (told["image"], told["height"], told["width"], told["mode"]) == ("photo.png", 40, 60, "independent")
    assert told["classes"] == result.to_dict()["classes"]
    assert told["regions"] == json.loads(json.dumps(result.to_dict()["regions"]))
    for index, name in enumerate(result.classes, start=1):  # an annotation is one component of a mask
        parts = [one["segmentation"] for one in told["coco"]["annotations"] if one["category_id"] == index]
        together = sum((coco_rle.decode(part).astype(int) for part in parts), np.zeros((40, 60), int))
        np.testing.assert_array_equal(together, result.masks[name])
    red = result.scores["red"]
    entry = told["scores"][0]
    assert (entry["name"], entry["mean"]) == ("red", pytest.approx(red.mean(), abs=1e-5))
    assert entry["boxes"][0]["mean"] == pytest.approx(red[:, :30].mean(), abs=1e-5)
    assert entry["boxes"][1]["peak"] == pytest.approx(red[5, 5], abs=1e-5)
    assert set(told["milliseconds"]) == {"encode", "score"}


def test_the_endpoint_takes_what_sharpens_masks_by_the_names_of_python(client, tiny_model):
    fields = {"propagate": "pixels", "guide": "self", "recipe": "corr", "region_map": "superpixels", "vote": "true"}
    told = ask(client, **fields).json()
    seg = fgseg.load(tiny_model, recipe="corr", guide="self")
    result = seg.segment(PICTURE, ["red", "blue, navy"], propagate="pixels", region_map="superpixels", vote=True)
    assert told["classes"] == result.to_dict()["classes"]
    settings = told["settings"]
    assert {name: settings[name] for name in ("propagate", "recipe", "region_map", "vote")} == {
        "propagate": "pixels", "recipe": "corr", "region_map": "superpixels", "vote": True,
    }  # fmt: skip
    assert settings["guide"]["name"] == "self"


def test_the_endpoint_names_no_path_of_this_machine(client, tiny_model):
    assert str(Path(tiny_model).parent) not in ask(client).text


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"prompt": []}, 400, "prompts: expected at least one, got none"),
        ({"prompt": ["xyzzy"]}, 400, "never seen the word 'xyzzy'"),
        ({"prompt": ["red"] * 33}, 413, "prompts: expected at most 32, got 33"),
        ({"prompt": ["r" * 201]}, 413, "expected at most 200 characters per line, got 201"),
        ({"mode": "both"}, 400, "mode: expected one of exclusive, independent, got 'both'"),
        ({"propagate": "all"}, 400, "propagate: expected one of none, patches, pixels, both, got 'all'"),
        ({"guide": "/etc"}, 400, "guide: expected one of self, dino-b8"),
        ({"recipe": "proxy"}, 400, "recipe: 'proxy' needs a guide, got none; give guide='self'"),
        ({"recipe": "kk", "guide": "self", "propagate": "best"}, 400, "propagate: expected one of"),
        ({"region_map": "/etc/passwd"}, 400, "region_map: expected one of superpixels, eomt"),
        ({"region_map": "superpixels"}, 400, "nothing uses the regions unless they vote; give vote=True too"),
        ({"vote": "true"}, 400, "vote: expected regions that vote, got none"),
        ({"vote": "yes"}, 400, "vote: expected true or false, got 'yes'"),
        ({"threshold": "high"}, 400, "threshold: expected a number, got 'high'"),
        ({"threshold": "nan"}, 400, "threshold: expected a number from 0 to 1"),
        ({"resolution": "slide:9999"}, 400, "resolution: expected one of auto, squash, keep, slide"),
        ({"box": "1,2,3"}, 400, "box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got '1,2,3'"),
        ({"box": "0,0,61,40"}, 400, "box: expected left, top, right, bottom within 60 x 40 pixels"),
        ({"box": ["0,0,1,1"] * 101}, 413, "box: expected at most 100, got 101"),
        ({"prompts": "red"}, 400, "form: expected the fields image, prompt"),
        ({"data": b"no picture"}, 400, "photo.png: not an image that can be read"),
        ({"data": encode_png(np.zeros((101, 100, 3), np.uint8))}, 400, "over the limit of 0.01"),
        ({"data": bytes(100_001)}, 413, "image: expected a file of at most 0.1 MB"),
    ],
)
def test_the_endpoint_explains_a_wrong_request_in_one_line_of_json(client, fields, status, message):
    answer = ask(client, **fields)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_form_without_an_image_is_told_how_to_send_one(client):
    answer = client.post("/api/segment", data={"prompt": "red"})
    assert (answer.status_code, "curl -F image=@photo.jpg" in answer.json()["error"]) == (400, True)
    assert client.post("/api/segment", json={}).status_code == 400


def test_a_busy_server_says_so(client, service, monkeypatch):
    full = WorkQueue(1)
    full._room.acquire()
    monkeypatch.setattr(service, "queue", full)
    answer = ask(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "the server is busy with 1 requests" in answer.json()["error"]


def test_an_unexpected_error_is_a_500_without_traceback_or_path(client, service, monkeypatch):
    def broken(*_args):
        raise RuntimeError("/home/someone/weights")

    monkeypatch.setattr(service, "answer", broken)
    answer = ask(client)
    assert answer.status_code == 500
    assert "/home" not in answer.text
    assert "Traceback" not in answer.text


# --- images and files of the page


def test_an_image_is_reached_only_by_its_secret(client, service):
    secret = client.post("/session", content=encode_png(PICTURE), headers={"x-file-name": "a%20b.png"}).json()["secret"]
    assert service.sessions.get(secret).name == "a b.png"
    assert client.get(f"/session/{secret}/labels.png").json()["error"].startswith("result: there is none yet")
    service.segment(secret, SegmentationRequest(("red", "blue")))
    answer = client.get(f"/session/{secret}/coco.json")
    assert answer.headers["content-disposition"] == 'attachment; filename="coco.json"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["images"][0]["file_name"] == "a b.png"
    for wrong in (f"/session/{secret}x/labels.png", f"/session/{secret}/run.json", f"/session/{secret}/../labels.png"):
        assert client.get(wrong).status_code == 404


# --- the guard


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7:7860", "", "[::1", "127.0.0.1]", "[x]"]
)
def test_host_names_of_other_machines_are_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]) == (403, "host: expected 127.0.0.1 or localhost")


def test_the_name_of_a_balancer_is_answered_if_it_was_allowed_and_its_own_page_may_ask(service):
    client = TestClient(application(service, check_host_names(["Masks.example.org"])), base_url=HERE)
    named = {"host": "masks.example.org:8443", "origin": "https://masks.example.org:8443"}
    assert client.get("/health", headers=named).status_code == 200
    refused = client.get("/health", headers={**named, "origin": "https://evil.example"})
    assert (refused.status_code, "own page" in refused.json()["error"]) == (403, True)
    other = client.get("/health", headers={"host": "evil.example"})
    assert other.json()["error"] == "host: expected 127.0.0.1 or localhost or masks.example.org"


@pytest.mark.parametrize(
    "name", ["", "https://masks.example.org", "masks.example.org:80", "a/b", "[x", "a@b", "two names"]
)
def test_an_allowed_host_is_a_bare_name(name, capsys):
    from fgseg.commands.main import main

    with pytest.raises(SystemExit) as left:
        main(["serve", "--allow-host", name])
    assert left.value.code == 2
    assert "--allow-host: expected a host name such as masks.example.org" in capsys.readouterr().err


def test_a_server_at_full_load_is_still_healthy(client, service, monkeypatch):
    full = WorkQueue(1)
    full._room.acquire()
    monkeypatch.setattr(service, "queue", full)
    assert ask(client).status_code == 503
    assert (client.get("/health").json(), client.head("/health").status_code) == ({"status": "ok"}, 200)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://[x", "http://127.0.0.1]"]
)
def test_requests_from_other_pages_are_refused(client, origin):
    answer = client.post("/api/segment", headers={"origin": origin}, data={"prompt": "red"})
    assert (answer.status_code, "own page" in answer.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/deep_link",
        "/gradio_api/runs",
        "/monitoring",
        "/docs",
        "/login",
        "/assets/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/app.py",
    ],
)
def test_other_routes_of_gradio_are_closed(client, path):
    answer = client.get(path)
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


def test_the_upload_of_gradio_is_closed(client):
    assert client.post("/gradio_api/upload", files={"files": ("a.txt", b"hello")}).status_code == 404


def test_a_body_over_the_limit_is_refused_before_it_is_read_into_memory(client):
    answer = client.post("/session", content=bytes(1_200_000))
    assert (answer.status_code, "body: expected at most 1.1 MB, got 1.2 MB" in answer.json()["error"]) == (413, True)
    assert client.post("/gradio_api/queue/join", content=bytes(1_000_001)).status_code == 413

    def pieces():
        yield b"a"

    assert client.post("/session", content=pieces()).status_code == 411


def test_the_page_loads_nothing_from_other_servers(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:", policy)
    # What the browser would fetch by itself: scripts, styles, fonts.
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)[^"]*"', answer.text)
    assert "googleapis" not in client.get("/theme.css").text


# --- the command


def serve(*options):
    command = [sys.executable, "-m", "fgseg", "serve", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    from fgseg.commands import serve as serving
    from fgseg.commands.main import main

    monkeypatch.setattr(serving, "find_spec", lambda package: None if package == "gradio" else object())
    with pytest.raises(SystemExit) as left:
        main(["serve"])
    assert left.value.code == 1
    assert capsys.readouterr().err == 'fgseg: the web page needs Gradio: pip install "fgseg[web]"\n'


def test_a_port_that_is_taken_is_an_error_of_one_line(tiny_model, capsys):
    import socket

    from fgseg.commands.main import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as left:
            main(["serve", "--port", port, "--model", tiny_model])
    assert left.value.code == 2
    assert f"--port: expected a free port, got {port}" in capsys.readouterr().err


def test_the_server_keeps_connections_longer_than_clients_do(tiny_model, monkeypatch):
    seen = []
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: seen.append(self.config.timeout_keep_alive))
    server.serve(fgseg.load(tiny_model), limits=Limits(), port=0, ready=lambda address: None)
    assert seen[0] > 2 * httpx.Limits().keepalive_expiry


def test_the_server_stops_on_sigterm_and_leaves_no_folder(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serve("--port", "0", "--model", tiny_model) as process:
        address = process.stdout.readline()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", address)
        assert [path.name[:10] for path in tmp_path.iterdir()] == ["fgseg-web-"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=START_PATIENCE)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_server_that_was_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "fgseg-web-abc_1234"
    dead.mkdir()
    (tmp_path / "fgseg-web-notes.txt").touch()
    with server._gradio_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        temporary._remove_abandoned_once.cache_clear()
        with server._gradio_folder() as other:
            assert {path.name for path in tmp_path.iterdir()} == {folder.name, other.name, "fgseg-web-notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["fgseg-web-notes.txt"]


@pytest.mark.parametrize("path", ["/session", "/api/segment"])
def test_an_upload_that_is_broken_off_is_no_error_in_the_log(service, path, caplog):
    messages = [{"type": "http.request", "body": b"--a\r\n", "more_body": True}, {"type": "http.disconnect"}]
    headers = {"host": "localhost", "content-length": "9", "content-type": "multipart/form-data; boundary=a"}
    scope = {
        "type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    app = Starlette(routes=routes(service))
    asyncio.run(app(scope, receive, send))
    assert messages == []
    assert caplog.text == ""


# --- many users


def test_sixteen_clients_get_no_error_and_see_their_own_images_also_with_hostile_ones_among_them(tmp_path):
    out = tmp_path / "load.json"
    command = [sys.executable, "benchmarks/web_load.py", "--seconds", "4", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=600)
    told = json.loads(out.read_text(encoding="utf-8"))
    assert (told["clients"], told["hostile"]) == (16, 5)
    for half in (told["alone"], told["beside_hostile_clients"]):
        assert half["errors"] == []
        assert half["mixed_up"] == []
        assert half["requests"] >= 16
        # One worker: only the kept images and the threads of Gradio grow with the number of users.
        assert half["resident_mb"]["peak"] - half["resident_mb"]["before"] < 400
    assert all(told["hostile_answers"].values())
    assert told["wrong_answers"] == []
    assert told["logged_lines"] == []
