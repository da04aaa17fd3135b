"""Start a command in several processes on this machine, one for each device: what `--devices N` does.

On several machines torchrun starts them instead: `torchrun --nnodes 2 --nproc-per-node 4 ... -m tubelet train ...`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from tubelet.errors import ConfigError

__all__ = ["launch", "take_devices"]

_GRACE_S = 30.0


def take_devices(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Find `--devices N`, and return N (1 where it is not there) with the other arguments.

    Raises:
        ConfigError: no number above 0.

    Example:
        >>> take_devices(["train", "clips", "--devices", "2", "--epochs", "3"])
        (2, ['train', 'clips', '--epochs', '3'])
    """
    rest: list[str] = []
    devices = "1"
    queue = iter(arguments)
    for argument in queue:
        option, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *queue]
        elif option == "--devices":
            devices = value if equals else next(queue, "")
        else:
            rest.append(argument)
    if not devices.isdecimal() or int(devices) < 1:
        raise ConfigError(
            f"cannot start processes for --devices {devices!r} - that is no number of devices - give 2, say."
        )
    return int(devices), rest


def launch(devices: int, arguments: Sequence[str]) -> int:
    """Run a command in that many processes; return the exit status of the first that failed, or 0.

    Signals that reach this process go to all of them. When one fails the others are ended: they would wait for it.
    """
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_find_port()),
        "WORLD_SIZE": str(devices),
    }
    # Each process computes with its part of the cores; more threads than cores make all of them wait.
    environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // devices, 1)))
    command = [sys.executable, "-m", "tubelet", *arguments]
    children = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(devices)
    ]

    def pass_on(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    # Ctrl-C reaches the whole group by itself.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, pass_on)
    try:
        return _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            child.kill()
            child.wait()


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait for all, or for the first that fails and then a while for the others."""
    failed, since_s = 0, 0.0
    while any(child.poll() is None for child in children):
        codes = [child.returncode for child in children if child.returncode]
        if codes and not failed:
            failed, since_s = codes[0], time.monotonic()
        if failed and time.monotonic() - since_s > _GRACE_S:
            break
        time.sleep(0.05)
    codes = [child.returncode for child in children if child.returncode]
    status = failed or (codes[0] if codes else 0)
    return status if status >= 0 else 128 - status


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
