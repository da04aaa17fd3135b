"""Run `tubelet serve` as its users do: in a process of its own."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

__all__ = ["measure_memory_mb", "serving"]


@contextmanager
def serving(model, *options, environment=None, command=(sys.executable, "-m", "tubelet")):
    """Start a server on a free port; give its address and its process."""
    started = subprocess.Popen(
        [*command, "serve", str(model), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        said = iter(started.stderr.readline, "")  # warnings, such as that there is no sandbox, and the address
        found = next((match for line in said if (match := re.search(r"http://\S+:\d+", line))), None)
        assert found, "the server did not start"
        yield found[0], started
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait(timeout=60)
        started.stderr.close()


def measure_memory_mb(process):
    """Return the resident memory of the server itself."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024
