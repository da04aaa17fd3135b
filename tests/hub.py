"""Imitate as much of the Hugging Face hub as publishing and loading take: real HTTP on this machine, kept in memory.

A repository of `refuses-403` (or any other status) is not made, with that status; one of `breaks-500` answers so only
to the commit, after everything was uploaded.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

__all__ = ["TOKEN", "Hub", "serve_hub"]

TOKEN = "hf_test"


class Hub:
    """Hold repositories: the files of the last commit, whether they are private, how many commits there were."""

    def __init__(self):
        self.files, self.private, self.commits = {}, {}, {}
        self.uploaded = {}
        self.requests = []

    def commit_of(self, repo):
        return f"{self.commits.get(repo, 0):040x}"


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    address: str

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.requests.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            front = json.loads(body)["content"].split("---\n")[1]
            assert yaml.safe_load(front)["library_name"] == "tubelet"
            return self.answer(200, {"errors": [], "warnings": []})
        parts = self.path.strip("/").split("/")
        if "preupload" in parts:
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            listed = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return self.answer(200, {"files": listed})
        if "commit" in parts:
            return self.commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        assert parts[-1] == "batch", self.path
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.address}/lfs/{entry['oid']}", "header": {}}}}
            for entry in json.loads(body)["objects"]
        ]
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def create(self, asked):
        owner, repo = asked["organization"], f"{asked['organization']}/{asked['name']}"
        if owner.startswith("refuses-"):
            return self.answer(int(owner.partition("-")[2]), {"error": "refused"})
        is_there = repo in self.hub.files
        self.hub.files.setdefault(repo, {})
        self.hub.private.setdefault(repo, "private" in (asked.get("visibility"), asked.get("private") and "private"))
        return self.answer(409 if is_there else 200, {"url": f"{self.address}/{repo}"})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.uploaded[oid] = content
        self.answer(200, {})

    def commit(self, repo, lines):
        if repo.startswith("breaks-"):
            return self.answer(int(repo.partition("/")[0].partition("-")[2]), {"error": "broken"})
        files = dict(self.hub.files[repo])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.files[repo] = files
        self.hub.commits[repo] = self.hub.commits.get(repo, 0) + 1
        commit = self.hub.commit_of(repo)
        return self.answer(
            200, {"commitUrl": f"{self.address}/{repo}/commit/{commit}", "commitOid": commit, "success": True}
        )

    def do_HEAD(self):
        self.fetch(with_body=False)

    def do_GET(self):
        self.fetch(with_body=True)

    def fetch(self, *, with_body):
        self.hub.requests.append(self.path)
        if self.path.startswith("/api/models/"):
            repo = self.path.removeprefix("/api/models/").partition("?")[0]
            if repo not in self.hub.files:
                return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            siblings = [{"rfilename": name} for name in self.hub.files[repo]]
            known = {"id": repo, "private": self.hub.private[repo], "siblings": siblings}
            return self.answer(200, {**known, "sha": self.hub.commit_of(repo)})
        repo, _, name = self.path.strip("/").partition("/resolve/")
        commit = {"X-Repo-Commit": self.hub.commit_of(repo)}
        content = self.hub.files.get(repo, {}).get(name.partition("/")[2].partition("?")[0])
        if content is None:
            return self.answer(404, {}, {**commit, "X-Error-Code": "EntryNotFound"})
        return self.send(200, content, {**commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, with_body)

    def answer(self, status, value, headers=None):
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status, content, headers, with_body=True):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@contextmanager
def serve_hub():
    """Serve an empty hub; yield it and its address."""
    hub = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub, handler.address
    finally:
        server.shutdown()
        server.server_close()
