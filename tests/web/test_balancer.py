"""Two servers behind nginx, configured as in docs/page.md: the endpoint, the page, limits, and the end of a server.

They take a minute, so that they run with `pytest -m balancer` only, and not where nginx is not installed.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

import fgseg
from fgseg.images.writing import encode_png

ROOT = Path(__file__).parents[2]
NAME = "masks.localhost"  # browsers take it for this machine
PATIENCE = 300  # seconds; a busy machine takes its time
nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
chromium = shutil.which("chromium")
pytestmark = [pytest.mark.balancer, pytest.mark.skipif(nginx is None, reason="no nginx found")]


def configuration(ports, port, folder):
    """The configuration of the documentation with other ports, and with a log of which server answered."""
    text = (ROOT / "docs" / "page.md").read_text(encoding="utf-8").partition("```nginx\n")[2].partition("```")[0]
    text = text.replace("7861", str(ports[0])).replace("7862", str(ports[1])).replace("8080", f"127.0.0.1:{port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    log = f"  log_format told '$uri $status $upstream_addr';\n  access_log {folder}/access.log told;\n"
    user = "user root;\n"  # the folder is private
    return user + text.replace("http {\n", f"http {{\n{places}{log}")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def balanced(tmp_path_factory):
    """The address of the balancer, its log, and the two servers by their addresses."""
    folder = tmp_path_factory.mktemp("nginx")
    command = [sys.executable, "-m", "fgseg", "serve", "--port", "0", "--model", "mini", "--allow-host", NAME]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
            for _ in range(2)
        ]
        for server in servers:
            stack.callback(server.terminate)
        addresses = [server.stdout.readline().strip() for server in servers]
        port = free_port()
        (folder / "nginx.conf").write_text(
            configuration([address.rpartition(":")[2] for address in addresses], port, folder), encoding="utf-8"
        )
        options = ["-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        proxy = subprocess.Popen([nginx, *options, "-g", f"daemon off; pid {folder}/nginx.pid;"])
        stack.callback(proxy.wait)
        stack.callback(proxy.terminate)
        by_address = {
            address.removeprefix("http://"): server for address, server in zip(addresses, servers, strict=True)
        }
        made = SimpleNamespace(
            address=f"http://127.0.0.1:{port}", port=port, log=folder / "access.log", servers=by_address
        )
        wait_until_healthy(made)
        yield made


def wait_until_healthy(balanced):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            return httpx.get(f"{balanced.address}/health", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the balancer does not answer")


def answered(balanced, path):
    """The servers that answered requests of a path, in order."""
    lines = (line.split() for line in balanced.log.read_text(encoding="utf-8").splitlines())
    return [words[-1] for words in lines if re.fullmatch(path, words[0])]


def ask(balanced, picture, host=NAME):
    form = {"prompt": ["red", "blue"]}
    named = {"host": f"{host}:{balanced.port}"}
    files = {"image": ("a.png", picture)}
    return httpx.post(f"{balanced.address}/api/segment", files=files, data=form, headers=named, timeout=PATIENCE)


PICTURE = encode_png(np.full((40, 60, 3), (200, 30, 30), np.uint8))


def test_both_servers_answer_the_endpoint_under_the_allowed_name_only(balanced):
    told = [ask(balanced, PICTURE) for _ in range(4)]
    assert [answer.json()["classes"][0]["pixels"] for answer in told] == [2400] * 4
    assert set(answered(balanced, "/api/segment")) == set(balanced.servers)
    refused = ask(balanced, PICTURE, host="evil.example")
    assert (refused.status_code, refused.json()["error"][:15]) == (403, "host: expected ")


def test_a_picture_that_is_too_large_gets_the_sentence_of_the_server(balanced):
    answer = ask(balanced, bytes(25_000_001))
    assert (answer.status_code, "expected a file of at most 25 MB" in answer.json()["error"]) == (413, True)


def test_a_body_in_pieces_reaches_the_server_in_one(balanced):
    answer = httpx.post(f"{balanced.address}/session", content=iter([PICTURE[:9], PICTURE[9:]]), timeout=PATIENCE)
    assert list(answer.json()) == ["secret"]


def test_visitors_of_the_page_keep_their_server_and_their_pictures(balanced, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from web_load import Report, User

    report, seg = Report(), fgseg.load("mini")
    users = [User(number, balanced.address, seg, report) for number in range(6)]
    for _ in zip(*(user.round() for user in users), strict=True):  # one request of each, in turns
        pass
    for user in users:
        user.http.close()
    assert report.mixed_up == []


def test_visitors_are_shared_among_the_servers(balanced):
    for number in range(40):
        httpx.get(f"{balanced.address}/config", cookies={"fgseg": f"{number:x}"}).raise_for_status()
    assert set(answered(balanced, "/config")) == set(balanced.servers)


@pytest.mark.skipif(chromium is None, reason="no browser found")
def test_a_browser_segments_on_the_page_under_the_allowed_name(balanced, tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "red.png").write_bytes(PICTURE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"http://{NAME}:{balanced.port}")
        page.locator(".fg-file").set_input_files(tmp_path / "red.png")
        page.locator(".fg-name", has_text="red.png").wait_for()
        page.fill("#fg-prompts textarea", "red")
        page.click("#fg-run")
        page.locator(".fg-legend", has_text="100").wait_for()
        browser.close()


def test_when_a_server_ends_the_other_answers_and_the_page_asks_for_the_picture_again(balanced):
    with httpx.Client(base_url=balanced.address, timeout=PATIENCE, trust_env=False) as visitor:
        secret = visitor.post("/session", content=PICTURE).json()["secret"]
        own = answered(balanced, "/session")[-1]
        balanced.servers[own].kill()
        balanced.servers[own].wait()
        assert [ask(balanced, PICTURE).status_code for _ in range(3)] == [200] * 3
        answer = visitor.get(f"/session/{secret}/labels.png")
        assert (answer.status_code, "load it again" in answer.json()["error"]) == (404, True)
