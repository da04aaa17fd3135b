"""Damage valid files at random, reproducibly: every mutant ends in frames or in one named error."""

import json
import random
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tubelet import errors
from video.corpus import CORPUS, Entry, Frames, lay_out
from video.corpus.harness import Job
from video.corpus.judging import HARNESS, complaints, environment, on_linux

pytestmark = [on_linux]


def _mutant(data: bytes, generator: random.Random) -> bytes:
    """Damage a file as fuzzers do: flip, overwrite, cut out, double, or lie in a length."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        at = generator.randrange(len(changed))
        span = generator.choice((1, 2, 4, 16, 64))
        match generator.randrange(5):
            case 0:
                changed[at] ^= 1 << generator.randrange(8)
            case 1:
                changed[at : at + span] = generator.randbytes(len(changed[at : at + span]))
            case 2 if len(changed) > 200:
                del changed[at : at + span]
            case 3:
                changed[at:at] = changed[at : at + span]
            case _:
                changed[at : at + 4] = generator.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1")
                )
    return bytes(changed)


def _fuzz(root: Path, each: int, start: int) -> list[tuple[str, list[str]]]:
    files = ["plain", "live_mkv", "vp8", "xvid_avi", "h264_ts", "gif", "flv"]
    loose = frozenset(_error_codes())
    jobs, entries = [], {}
    for form, key in enumerate(files):
        source, _ = lay_out(CORPUS[key], root / "whole", b"", 9)
        data = Path(source).read_bytes()
        for number in range(each):
            name = f"{key}_{start + number}"
            path = root / f"{name}{Path(source).suffix}"
            path.write_bytes(_mutant(data, random.Random(1_000_003 * form + start + number)))
            entries[name] = Entry(name, path.name, CORPUS[key].make, Frames(None, 0, 0, color=False), loose)
            jobs.append(Job(name, str(path)))
    asked, answered = root / "jobs.json", root / "outcomes.jsonl"
    asked.write_text(json.dumps([asdict(job) for job in jobs]))
    subprocess.run([*HARNESS, str(asked), str(answered), "2"], env=environment(), check=True, timeout=900)
    rows = [json.loads(line) for line in answered.read_text().splitlines()]
    sources = {job.key: job.source for job in jobs}
    judged = [(row["key"], complaints(entries[row["key"]], sources[row["key"]], row)) for row in rows]
    assert len(judged) == len(jobs)
    return [(key, found) for key, found in judged if found]


def _error_codes() -> set[str]:
    """Collect the codes of all video errors; the bare parent's is too vague for a file."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    return {kind.code for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.VideoError)} - {"video"}


def test_mutants_end_in_frames_or_one_named_error(tmp_path: Path) -> None:
    assert _fuzz(tmp_path, each=12, start=0) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifteen_hundred_mutants_end_in_frames_or_one_named_error(tmp_path: Path) -> None:
    assert _fuzz(tmp_path, each=215, start=1000) == []
