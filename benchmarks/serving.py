"""Put load on a server: one client, then many of whom some send bad files; what is answered, how fast, at what memory.

Run: python benchmarks/serving.py [--clients 64] [--seconds 60] [--json], after pip install 'tubelet[serve]' httpx
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tubelet.classifier import Classifier
from tubelet.models import create_model
from tubelet.video.encoding import Encoding, encode_frames
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

MODEL = "vivit_nano_factorized_encoder"
BAD_SHARE = 0.1
PATIENCE_S = 60.0


def make_model(folder: Path) -> None:
    """Save a model of random weights, which costs what a trained one costs."""
    spec = InputSpec(frames=16, height=64, width=64)
    model = create_model(MODEL, num_classes=10, frames=16, height=64, width=64)
    Classifier(model, spec, tuple(f"class {number}" for number in range(10))).save(folder)


def make_files() -> tuple[list[bytes], list[bytes]]:
    """Make good clips of 2 s, 240 x 320, and files that are none."""
    random = np.random.default_rng(0)
    good = []
    for _ in range(8):
        small = random.integers(0, 255, (50, 15, 20, 3)).astype(np.uint8)
        stream = BytesIO()
        with Video(small.repeat(16, axis=1).repeat(16, axis=2), fps=25.0) as video:
            encode_frames(video, stream, 0, 50, Encoding())
        good.append(stream.getvalue())
    whole = good[0]
    bad = [b"", b"no video\n" * 100, whole[: len(whole) // 2], whole[:500], random.bytes(50_000)]
    bad += [b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", whole.replace(b"avc1", b"xxxx"), whole.replace(b"moov", b"xxxx")]
    return good, bad


class Server:
    """Run `tubelet serve` in a process of its own."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-m", "tubelet", "serve", str(model), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = iter(self.process.stderr.readline, "")
        self.address = next(match[0] for line in said if (match := re.search(r"http://\S+:\d+", line)))

    def measure_memory(self) -> float:
        """Return the resident memory of the server and of its decoders, in MB; Linux only."""
        pids = [self.process.pid]
        pids += map(int, Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split())
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(re.search(r"VmRSS:\s+(\d+)", text)[1]) for text in texts) / 1024

    def stop(self) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.terminate()
        status = self.process.wait(timeout=60)
        self.process.stderr.close()
        return status


class Load:
    """Count what clients meet."""

    def __init__(self, address: str, good: list[bytes], bad: list[bytes]) -> None:
        self.address = address
        self.good = good
        self.bad = bad
        self.statuses = Counter()
        self.waits = []
        self.odd = []

    async def put(self, clients: int, seconds: float, bad_share: float) -> tuple[float, list[float]]:
        """Let so many clients ask one thing after the other; return good answers a second."""
        end = time.monotonic() + seconds
        before = len(self.waits)
        limits = httpx.Limits(max_connections=clients)
        start = time.monotonic()
        async with httpx.AsyncClient(base_url=self.address, timeout=120, limits=limits) as client:
            done = await asyncio.gather(*(self._ask_on(client, number, end, bad_share) for number in range(clients)))
        return sum(done) / (max(time.monotonic(), end) - start), self.waits[before:]

    async def _ask_on(self, client: httpx.AsyncClient, number: int, end: float, bad_share: float) -> int:
        random, done = np.random.default_rng(number), 0
        while time.monotonic() < end:
            is_bad = random.random() < bad_share
            files = self.bad if is_bad else self.good
            done += await self._ask(client, files[random.integers(len(files))], is_bad)
        return done

    async def _ask(self, client: httpx.AsyncClient, body: bytes, is_bad: bool) -> bool:
        """Ask until there is an answer, as long as the server says when to come again."""
        start = time.monotonic()
        while True:
            reply = await client.post("/predict", content=body)
            self.statuses["bad" if is_bad else "good", reply.status_code] += 1
            if reply.status_code not in (429, 503):
                break
            await asyncio.sleep(int(reply.headers["retry-after"]))
        expected = 422 if is_bad else 200
        if reply.status_code != expected:
            self.odd.append((reply.status_code, reply.text[:200]))
        if not is_bad:
            self.waits.append(time.monotonic() - start)
        return not is_bad and reply.status_code == 200


async def measure(server: Server, load: Load, options: argparse.Namespace) -> dict[str, Any]:
    """Put load on the server, and return what was seen."""
    await load.put(8, min(options.seconds / 4, 10), BAD_SHARE)  # warm: every kind of file was seen once
    alone, waits_alone = await load.put(1, min(options.seconds / 2, 20), 0.0)
    load.statuses.clear()
    start_mb, most_mb = server.measure_memory(), 0.0
    task = asyncio.create_task(load.put(options.clients, options.seconds, BAD_SHARE))
    while not task.done():
        most_mb = max(most_mb, server.measure_memory())
        await asyncio.sleep(0.5)
    together, waits = task.result()
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "alone_per_s": alone,
        "alone_median_s": float(np.median(waits_alone)),
        "together_per_s": together,
        "kept": together / alone,
        "longest_wait_s": max(waits),
        "median_wait_s": float(np.median(waits)),
        "memory_start_mb": start_mb,
        "memory_most_mb": most_mb,
        "answers": {f"{kind} {status}": count for (kind, status), count in sorted(load.statuses.items())},
        "odd": load.odd[:10],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        good, bad = make_files()
        server = Server(folder / "model")
        try:
            found = asyncio.run(measure(server, Load(server.address, good, bad), options))
        finally:
            found_status = server.stop()
    found["exit_status"] = found_status
    if options.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:18} {value:.3f}" if isinstance(value, float) else f"{key:18} {value}")


if __name__ == "__main__":
    main()
