"""The lines of the Dockerfile work: replayed without Docker, in an empty environment, as a user without rights."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from small_run import write_clip

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-enough-letters"
NOBODY = 10001


def read_lines(word):
    """Return what the Dockerfile says after a word, in order."""
    return re.findall(rf"^{word} (.+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_container_runs_without_root_and_is_asked_whether_it_is_ready():
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["tubelet"]
    assert [service["user"]] == read_lines("USER") == [f"{NOBODY}:{NOBODY}"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "/readyz" in service["healthcheck"]["test"][-1]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "TUBELET_TOKEN" in service["environment"]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it installs everything
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to become another user")
def test_its_lines_replayed_in_an_empty_environment_serve_a_model(small_run, tmp_path):
    # Another user must reach it, which folders of tests do not let them.
    folder = Path(tempfile.mkdtemp(prefix="container."))
    try:
        environment = build(folder)
        shutil.copytree(small_run / "model", folder / "models" / "model")
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        (command,) = map(json.loads, read_lines("CMD"))
        check_server([part.replace("/models/", f"{folder}/models/") for part in command], environment, tmp_path)
    finally:
        shutil.rmtree(folder)


def build(folder):
    """Do what FROM, COPY and RUN say; return the environment of what is run."""
    app = folder / "app"
    app.mkdir()
    for line in read_lines("COPY"):
        *sources, target = line.split()
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, app / (target if target != "./" else source))
    clean = {"PATH": f"{folder}/venv/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
    clean["LD_LIBRARY_PATH"] = str(folder / "python" / "lib")
    subprocess.run([find_python(folder), "-m", "venv", str(folder / "venv")], env=clean, check=True)
    # Where this machine has its packages from, and those versions that are tested.
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "http", "no_"))}
    found = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    for name, value in re.findall(r"^global\.([\w-]+)='(.*)'$", found, re.MULTILINE):
        kept.setdefault(f"PIP_{name.upper().replace('-', '_')}", value)
    kept["PIP_CONSTRAINT"] = str(ROOT / "requirements" / "ci.txt")
    for line in read_lines("RUN"):
        done = subprocess.run(["sh", "-euc", line], cwd=app, env={**kept, **clean}, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return clean


def find_python(folder):
    """Return a Python that a user without rights can run: this one, or a copy of it."""
    own = sys._base_executable
    with suppress(PermissionError):
        subprocess.run([own, "-c", ""], user=NOBODY, group=NOBODY, env={}, cwd="/", check=True)
        return own
    leave_out = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "*.a")
    shutil.copytree(sys.base_prefix, folder / "python", symlinks=True, ignore=leave_out)
    return str(folder / "python" / "bin" / "python3")


def check_server(command, clean, folder):
    """Start what CMD says as the user that USER says, ask it whether it is ready, and for an answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command[command.index("--port") + 1] = port
    own = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": {**clean, "TUBELET_TOKEN": TOKEN}, "cwd": "/"}
    path = shutil.which(command[0], path=clean["PATH"])
    started = subprocess.Popen([path, *command[1:]], stderr=subprocess.PIPE, text=True, **own)
    try:
        said = iter(started.stderr.readline, "")  # warnings, such as that there is no sandbox, and the address
        assert any("serving at" in line for line in said)
        assert f"Uid:\t{NOBODY}\t{NOBODY}" in Path(f"/proc/{started.pid}/status").read_text()
        health = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["tubelet"]["healthcheck"]["test"]
        asked = [part.replace(":8000", f":{port}") for part in health[2:]]
        subprocess.run([f"{clean['PATH'].split(':')[0]}/python", *asked], env=clean, check=True, timeout=60)
        clip = write_clip(folder / "clip.mp4").read_bytes()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.post("/predict", content=clip).status_code == 401
            reply = client.post("/predict", content=clip, headers={"authorization": f"Bearer {TOKEN}"})
            assert reply.status_code == 200, reply.text
    finally:
        started.terminate()
        status = started.wait(timeout=60)
        started.stderr.close()
    assert status == 0
