"""A small hub on 127.0.0.1: enough of the Hugging Face hub's protocol to fetch models, with faults on demand.

Safetensors are large files, which are redirected to `/cdn/` and named after their SHA-256. Other files are named after
their git hash.
"""

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Files by name, and the commit of each branch, tag and commit."""

    files: dict[str, bytes]
    revisions: dict[str, str]


@dataclass
class Fault:
    """What is done to requests that match: an answer with `status`, a delay, a cut, a flipped byte or a wrong size."""

    match: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    cut: int | None = None
    flip: int | None = None
    grow: int = 0
    times: int = 10**9


class LoopbackHub(ThreadingHTTPServer):
    """Serves `repositories`; `requests` holds "METHOD path" of each request that came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.faults, self.requests = {}, [], []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def add(self, name, folder, commit, *revisions):
        """Publish the files of a folder; `main` and other names stand for the commit."""
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
        self.repositories[name] = Repository(files, dict.fromkeys(("main", commit, *revisions), commit))
        return self.repositories[name]

    def fail(self, match, **what):
        """Let requests that match a pattern fail from now on."""
        self.faults.append(Fault(match, **what))

    def fault(self, line):
        found = next((fault for fault in self.faults if fault.times > 0 and re.search(fault.match, line)), None)
        if found:
            found.times -= 1
        return found or Fault("")

    def asked_for(self, part):
        """The requests that contain a text."""
        return [line for line in self.requests if part in line]


@contextmanager
def running():
    """A hub that answers until the block ends."""
    with LoopbackHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.server.requests.append(line)
        self.fault = self.server.fault(line)
        time.sleep(self.fault.delay)
        try:
            if self.fault.status:
                self.answer(self.fault.status, headers=self.fault.headers)
            else:
                self.route(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def route(self, path):
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if known := self.known(found[1], found[2] or "main"):
                repository, commit = known
                files = [{"rfilename": name} for name in repository.files]
                self.answer(200, json.dumps({"id": found[1], "sha": commit, "siblings": files}).encode())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+)/([^/]+)", path):
            if known := self.known(found[1], found[2]):
                self.resolve(found[1], *known, found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)", path):
            self.send(self.server.repositories[found[1]].files[found[2]], {})
        else:
            self.refuse(404, "EntryNotFound")

    def known(self, name, revision):
        repository = self.server.repositories.get(name)
        if repository is None:
            self.refuse(401, "RepoNotFound")  # as the hub answers somebody who is not logged in
        elif revision not in repository.revisions:
            self.refuse(404, "RevisionNotFound")
        else:
            return repository, repository.revisions[revision]
        return None

    def resolve(self, name, repository, commit, file):
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound")
        data, headers = repository.files[file], {"X-Repo-Commit": commit}
        if not file.endswith(".safetensors"):
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return self.send(data, headers | {"ETag": f'"{git}"'})
        headers |= {"X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        headers |= {"X-Linked-Size": str(len(data) + self.fault.grow)}
        return self.answer(
            302, headers=headers | {"Location": f"http://localhost:{self.server.server_port}/cdn/{name}/{file}"}
        )

    def send(self, data, headers):
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(found[1]) if found else 0
        if found:
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if self.fault.flip is not None:
            data = data[: self.fault.flip] + bytes([data[self.fault.flip] ^ 1]) + data[self.fault.flip + 1 :]
        self.answer(206 if found else 200, data[start:], headers)

    def refuse(self, status, code):
        self.answer(status, headers={"X-Error-Code": code})

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            cut = self.fault.cut
            self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = self.close_connection or cut is not None

    def log_message(self, *_):
        pass
