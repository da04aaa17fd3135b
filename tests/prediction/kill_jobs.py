"""Kill a job of predictions again and again, then let it end: prints how often it was killed, and where.

    python kill_jobs.py MODEL CLIPS JOB KILLS

Each attempt is a fork of this process, which has imported everything and computed nothing, so that an attempt costs
what it does. In turn an attempt dies after a number of sources, at a moment of the clock, or in a call to the system by
which rows are written (fsync or rename, before or after it is done).
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch

import tubelet
from tubelet.prediction import shards
from tubelet.prediction.shards import predict_shard

ROWS_A_FILE = 4
CALLS = ("fsync", "replace")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(call, countdown, is_done_first):
    """Have the process die in the call to the system that a number of others like it precede."""
    real = getattr(os, call)

    def counted(*given, **named):
        nonlocal countdown
        countdown -= 1
        if countdown < 0 and not is_done_first:
            die()
        real(*given, **named)
        if countdown < 0:
            die()

    setattr(os, call, counted)


def live(model, clips, job, death):
    """Work on the job until it is done, or death comes."""
    shards.ROWS_A_FILE = ROWS_A_FILE
    kind, *when = death
    if kind in CALLS:
        die_in(kind, *when)
    began = None

    def step(done, _total):
        nonlocal began
        began = done if began is None else began
        if kind == "source" and done - began == when[0]:
            die()

    predict_shard(tubelet.load(model), [clips], job, on_step=step)


def attempt(model, clips, job, death):
    """Return the status of one attempt."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            live(model, clips, job, death)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if death[0] == "clock":
        time.sleep(death[1])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def choose_death(number, chance):
    kind = (*CALLS, "source", "clock")[number % 4]
    if kind == "source":
        return kind, chance.randrange(12)
    if kind == "clock":
        return kind, chance.uniform(0.02, 0.5)
    # A file takes two fsyncs and one rename; the first two files of a job are its list and its description.
    return kind, chance.randrange(6 if kind == "fsync" else 3), chance.random() < 0.5


def main():
    torch.set_num_threads(1)
    model, clips, job, kills = *sys.argv[1:4], int(sys.argv[4])
    chance, killed = random.Random(0), Counter()
    for number in range(kills):
        death = choose_death(number, chance)
        status = attempt(model, clips, job, death)
        assert status == -signal.SIGKILL, (death, status)
        killed[death[0]] += 1
        rows = sum(len(path.read_text().splitlines()) - 1 for path in Path(job).glob("shard-*/*.csv"))
        print(death, rows, file=sys.stderr)
    assert attempt(model, clips, job, ("none",)) == 0
    print(json.dumps({"killed": killed.total(), **killed}))


if __name__ == "__main__":
    main()
