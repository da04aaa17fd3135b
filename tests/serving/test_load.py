"""Many clients, some hostile: everybody gets an answer, nothing grows, and a stop lets all finish."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from served import measure_memory_mb, serving
from small_run import write_clip

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sixty_four_clients_of_whom_some_send_bad_files_all_get_their_answer():
    command = [sys.executable, "benchmarks/serving.py", "--clients", "64", "--seconds", "15", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["odd"] == []
    assert {key.split()[1] for key in found["answers"]} <= {"200", "422", "503"}
    assert found["answers"]["bad 422"] > 0
    assert found["longest_wait_s"] < 60
    assert found["kept"] >= 0.95
    assert found["memory_most_mb"] - found["memory_start_mb"] <= 100
    assert found["exit_status"] == 0


def count_read(client):
    """Return how many bytes of bodies the server has read."""
    return float(re.search(r"^tubelet_body_bytes_total (\S+)$", client.get("/metrics").text, re.MULTILINE)[1])


@pytest.mark.slow
def test_201_mb_are_refused_with_hardly_more_read_than_the_limit(small_run):
    def pieces():
        while True:
            yield bytes(1_000_000)

    with serving(small_run) as (address, process), httpx.Client(base_url=address, timeout=100) as client:
        before_mb, before = measure_memory_mb(process), count_read(client)
        for content in (bytes(201_000_000), pieces()):
            reply = client.post("/predict", content=content)
            assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
            after = count_read(client)
            assert after - before <= 202_000_000
            before = after
        assert measure_memory_mb(process) - before_mb < 20
        assert client.post("/predict", content=b"x" * 200_000_000).status_code == 422


@pytest.mark.slow
def test_half_sent_requests_are_closed_by_30_seconds_and_hold_nobody_up(small_run, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()
    with serving(small_run) as (address, _), httpx.Client(base_url=address, timeout=60) as client:
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n\r\n".encode()
        start = time.monotonic()
        slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(40)]
        for number, raw in enumerate(slow):
            raw.sendall((b"", head[:20], head, head + clip[:100])[number % 4])
        while time.monotonic() - start < 5:
            status = client.post("/predict", content=clip).status_code
            assert status in (200, 503)
        for raw in slow:
            while raw.recv(1 << 16):
                pass
            raw.close()
        assert 25 < time.monotonic() - start < 40
        assert client.post("/predict", content=clip).status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stop_lets_all_finish_and_leaves_nothing_behind(small_run, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=200).read_bytes()
    folder = tmp_path / "temporary"
    folder.mkdir()
    statuses, refused = [], threading.Event()

    def ask(address):
        while not refused.is_set():
            try:
                statuses.append(httpx.post(f"{address}/predict?views=10", content=clip, timeout=60).status_code)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                refused.set()

    with serving(small_run, environment={"TMPDIR": str(folder)}) as (address, process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with httpx.Client(base_url=address) as kept:
            assert kept.get("/readyz").status_code == 200
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(statuses) < 4:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - start < 30
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 503}
    assert list(folder.iterdir()) == []
    assert children
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
