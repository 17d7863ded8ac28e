"""A local Hugging Face Hub with the few routes that pushing and fetching a model use."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a list of commits; `fetched` lists the files that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[tuple[str, Files]]] = {}
        self.fetched: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def commit(self, repository: str, files: Files) -> str:
        """Add a commit with `files` on top of the earlier ones; return its hash."""
        commits = self.repositories.setdefault(repository, [])
        content = (commits[-1][1] if commits else {}) | files
        sha = hashlib.sha1(repr((len(commits), sorted(content.items()))).encode()).hexdigest()
        commits.append((sha, content))
        return sha

    def files_at(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """Return hash and files of a commit, None where there is no such revision."""
        commits = self.repositories.get(repository, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit[0] == revision), None)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] == "Bearer hf_unknown":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/validate-yaml":
            is_wrong = "license: MIT\n" in json.loads(body)["content"]
            errors = [{"message": '"license" must be one of [mit]'}] if is_wrong else []
            self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)
        elif self.path == "/api/repos/create":
            given = json.loads(body)
            repository = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            self.server.repositories.setdefault(repository, [])
            self._answer({"url": repository})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main(?:\?.*)?", self.path):
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer({"files": modes})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main(?:\?.*)?", self.path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            sha = self.server.commit(match[1], {file["path"]: base64.b64decode(file["content"]) for file in files})
            url = f"https://huggingface.co/{match[1]}/commit/{sha}"  # the library wants to know the host
            self._answer({"success": True, "commitUrl": url, "commitOid": sha})
        else:
            self._refuse("")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/?]+))?/?(?:\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        match = info or file
        repository = match[1] if match else ""
        if not self.server.repositories.get(repository):
            self._refuse("RepoNotFound")
            return
        revision = (info[3] if info else file and file[2]) or "main"
        commit = self.server.files_at(repository, revision)
        if commit is None:
            self._refuse("RevisionNotFound")
            return
        sha, files = commit
        if file is not None:
            self._send_file(sha, file[3], files)
        elif info is not None and info[2] == "tree":
            rows = [
                {"type": "file", "path": name, "size": len(files[name]), "oid": _blob(files[name])} for name in files
            ]
            self._answer(rows)
        else:
            self._answer({"id": repository, "sha": sha, "siblings": [{"rfilename": name} for name in files]})

    def _send_file(self, sha: str, name: str, files: Files) -> None:
        if name not in files:
            self._refuse("EntryNotFound")
            return
        self.server.fetched.append(name)
        self._send(200, files[name], {"X-Repo-Commit": sha, "ETag": f'"{_blob(files[name])}"'})

    def _answer(self, document: Any, status: int = 200) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blob(content: bytes) -> str:
    """Return what Git calls this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
