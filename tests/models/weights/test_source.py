"""Where weights come from: files, folders, the hub over real HTTP, and what is said when nobody answers."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tubelet.errors import CheckpointError
from tubelet.models import create_model
from tubelet.models.weights.folder import write_folder
from tubelet.models.weights.source import find_weights
from tubelet.video.spec import InputSpec


@pytest.fixture
def folder(tmp_path):
    """A tiny VideoMAE as transformers stores it."""
    torch.manual_seed(0)
    sizes = {"frames": 4, "height": 16, "width": 16, "tubelet": (2, 8, 8), "dim": 24, "depth": 1, "heads": 2}
    model = create_model("videomae_base", 2, **sizes, mlp_dim=32, final_eps=1e-5)
    write_folder(model, InputSpec(frames=4, height=16, width=16), ("run", "walk"), tmp_path / "folder")
    return tmp_path / "folder"


def split_weights(folder):
    """Split the weights into two parts with an index, as large models are stored."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys, names = sorted(state), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    parts = {names[0]: keys[::2], names[1]: keys[1::2]}
    for name, part in parts.items():
        save_file({key: state[key] for key in part}, folder / name)
    weight_map = {key: name for name, part in parts.items() for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_parts_of_weights_are_found_by_their_index(folder):
    import tubelet

    split_weights(folder)
    assert len(find_weights(folder).paths) == 2
    assert tubelet.load(folder, device="cpu").classes == ("run", "walk")


def test_an_index_cannot_name_files_elsewhere(folder):
    split_weights(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(CheckpointError, match="should name files beside it"):
        find_weights(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://only-one-part", "a hub id reads hf://owner/repo"),
        ("no-such-thing", "there is no such file, folder or run"),
        ("", "there is no such file"),
        ("runs/none/at/all", "there is no such file"),
    ],
)
def test_sources_that_are_none_are_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        find_weights(source)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"it holds none of model\.safetensors"):
        find_weights(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as fetching single files takes."""

    root: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def answer(self, *, with_body):
        head, _, name = self.path.partition("/resolve/")
        path = self.root / head.strip("/") / name.partition("/")[2].split("?")[0]
        if not path.is_file():
            missing_repo = not (self.root / head.strip("/")).is_dir()
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if missing_repo else "EntryNotFound")
            self.send_header("X-Repo-Commit", self.commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tmp_path, folder):
    (tmp_path / "hub" / "somebody").mkdir(parents=True)
    folder.rename(tmp_path / "hub" / "somebody" / "tiny")
    handler = type("OwnHub", (Hub,), {"root": tmp_path / "hub"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def run_load(source, tmp_path, endpoint):
    script = f"import tubelet; print(tubelet.load({source!r}, device='cpu').classes)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "cache"),
        "TUBELET_HOME": str(tmp_path / "own"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_a_name_on_the_hub_is_fetched_once_and_then_needs_no_connection(hub, tmp_path):
    for source in ("hf://somebody/tiny", "somebody/tiny"):
        done = run_load(source, tmp_path, hub)
        assert done.stdout.strip() == "('run', 'walk')", done.stderr[-3000:]
    done = run_load("hf://somebody/tiny", tmp_path, "http://127.0.0.1:9")
    assert done.stdout.strip() == "('run', 'walk')", done.stderr[-3000:]


@pytest.mark.slow
def test_parts_are_fetched_from_the_hub(hub, tmp_path):
    split_weights(tmp_path / "hub" / "somebody" / "tiny")
    done = run_load("hf://somebody/tiny", tmp_path, hub)
    assert done.stdout.strip() == "('run', 'walk')", done.stderr[-3000:]


@pytest.mark.slow
def test_without_an_answer_the_message_names_file_and_place_and_the_place_works(hub, tmp_path):
    done = run_load("hf://somebody/tiny", tmp_path, "http://127.0.0.1:9")
    place = tmp_path / "own" / "weights" / "somebody--tiny"
    assert "CheckpointError" in done.stderr
    assert "config.json" in done.stderr
    assert "model.safetensors" in done.stderr
    assert str(place) in done.stderr
    place.parent.mkdir(parents=True)
    (tmp_path / "hub" / "somebody" / "tiny").rename(place)
    done = run_load("hf://somebody/tiny", tmp_path, "http://127.0.0.1:9")
    assert done.stdout.strip() == "('run', 'walk')", done.stderr[-3000:]


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_know_is_refused(hub, tmp_path):
    done = run_load("hf://somebody/other", tmp_path, hub)
    assert "CheckpointError: cannot fetch config.json of 'somebody/other'" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("names", [["weights"], None, {"a": "part\0"}, {"a": ".."}, {"a": ""}])
def test_an_index_of_a_wrong_kind_is_refused(folder, names):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CheckpointError, match="should name files beside it"):
        find_weights(folder)


@pytest.mark.parametrize("url", ["https://host", "https://host/a/../../b", "https://../file", "https://[/file"])
def test_an_address_cannot_lead_out_of_the_cache(url, tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="names no file"):
        find_weights(url)
    assert not any(tmp_path.iterdir())


def test_addresses_that_differ_in_their_query_are_kept_apart(tmp_path, monkeypatch):
    def write(url, path, progress):
        Path(path).write_text(url)

    monkeypatch.setenv("TUBELET_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", write)
    urls = ["https://host/get", "https://host/get?id=1", "https://host/get?id=2"]
    assert [find_weights(url).paths[0].read_text() for url in urls] == urls


def test_a_run_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such file, folder or run"):
        find_weights("runs/none")
