"""What is written appears whole or not at all; what is changed afterwards is noticed."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tubelet import files
from tubelet.errors import CheckpointError, ConfigError
from tubelet.files import (
    DiskFull,
    hash_bytes,
    hash_file,
    read_sealed,
    recover_folder,
    remove_leftovers,
    replace_folder,
    write_json,
    write_sealed,
    write_text,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    source = str(Path(files.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_exception_inside_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def write():
        with write_whole(path, "w") as stream:
            stream.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_nothing_stands_under_the_final_name_before_the_end(tmp_path):
    path = tmp_path / "a" / "b.bin"
    with write_whole(path) as stream:
        stream.write(b"x" * 100_000)
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"x" * 100_000


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_at_any_step_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(*((files.os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="Input/output"):
        files.write_sealed(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_content_and_folder_reach_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(self, target):
        events.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_text(tmp_path / "a.txt", "text")
    assert events == ["file", "rename", "folder"]


def test_a_killed_writer_keeps_the_old_file_and_its_leftover_can_be_cleared(tmp_path):
    path = tmp_path / "last.ckpt"
    write_sealed(path, b"old")
    done = run(
        """
        import os, signal, sys
        from tubelet.files import write_whole
        with write_whole(sys.argv[1]) as stream:
            stream.write(b"n" * 1_000_000)
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    assert done.returncode == -signal.SIGKILL
    assert read_sealed(path) == b"old"
    assert len(names(tmp_path)) == 2
    assert len(remove_leftovers(tmp_path)) == 1
    assert names(tmp_path) == ["last.ckpt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
@pytest.mark.parametrize("limit_bytes", [1, 47, 48, 49, 8_192, 1_000_000, 2_000_047])
def test_a_full_disk_keeps_the_old_file_and_says_what_is_needed(tmp_path, limit_bytes):
    path = tmp_path / "last.ckpt"
    write_sealed(path, b"old")
    done = run(
        """
        import resource, sys
        from tubelet.files import DiskFull, write_sealed
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        try:
            write_sealed(sys.argv[1], b"n" * 2_000_000)
        except DiskFull as error:
            sys.exit(str(error))
        """,
        path,
        limit_bytes,
    )
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "needs at least 2,000,048 bytes" in done.stderr
    assert "are free there" in done.stderr
    assert read_sealed(path) == b"old"
    assert names(tmp_path) == ["last.ckpt"]


def test_a_full_disk_while_streaming_text_names_path_and_bytes(tmp_path):
    done = run(
        """
        import resource, sys
        from tubelet.files import write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with write_whole(sys.argv[1], "w") as stream:
            for row in range(10_000):
                stream.write(f"row {row}\\n")
        """,
        tmp_path / "rows.csv",
    )
    assert "DiskFull: cannot write" in done.stderr
    assert "rows.csv" in done.stderr
    assert "needs at least 0 " not in done.stderr
    assert names(tmp_path) == []


def test_a_full_disk_of_the_callers_other_file_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(OSError, match="elsewhere"), write_whole(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device", "elsewhere")


def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o600)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_and_json_come_back_as_they_went(tmp_path):
    write_text(tmp_path / "a.txt", "é\r\n\n漢")
    assert (tmp_path / "a.txt").read_bytes() == "é\r\n\n漢".encode()
    with write_whole(tmp_path / "b.txt", "w") as stream:
        stream.write("é\r\n\n漢")
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    value = {"names": ["é", "b"], "lr": 3e-4, "none": None}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_json_that_other_programs_refuse_is_refused_here(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_the_hash_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4's example for the message "abc".
    assert hash_bytes(b"abc") == hash_file(tmp_path / "abc")
    assert hash_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_every_flipped_bit_and_every_truncation_of_a_sealed_file_is_detected(tmp_path):
    path = tmp_path / "last.ckpt"
    generator = random.Random(0)
    payload = generator.randbytes(5_000)
    write_sealed(path, payload)
    whole = path.read_bytes()
    assert read_sealed(path) == payload
    header_bits = range(48 * 8)
    flips = [*header_bits, *generator.sample(range(48 * 8, len(whole) * 8), 200)]
    for bit in flips:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"expected .* found"):
            read_sealed(path)
    for length in [0, 1, 47, 48, 49, len(whole) - 1, *generator.sample(range(50, len(whole)), 50)]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"last\.ckpt.*expected .* found"):
            read_sealed(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="expected 5,000 bytes of content, found 5,001"):
        read_sealed(path)


def test_an_absent_sealed_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.ckpt.*no such file"):
        read_sealed(tmp_path / "none.ckpt")


def fill(path: Path, content: str) -> None:
    with replace_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text(content)
        (folder / content).touch()


def test_a_replaced_folder_holds_the_new_content_only(tmp_path):
    fill(tmp_path / "model", "one")
    fill(tmp_path / "model", "two")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["sub", "two"]
    assert (tmp_path / "model" / "sub" / "weights").read_text() == "two"


def test_an_exception_while_filling_keeps_the_old_folder(tmp_path):
    fill(tmp_path / "model", "one")

    def refill():
        with replace_folder(tmp_path / "model") as folder:
            (folder / "two").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refill()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["one", "sub"]


KILLED_FILL = """
    import os, pathlib, signal, sys
    from tubelet import files
    left, real = int(sys.argv[2]), {}
    def hook(name, module=files.os):
        real[name] = getattr(module, name)
        def step(*arguments, **keywords):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*arguments, **keywords)
        setattr(module, name, step)
    for name in ("fsync", "mkdir", "rename", "unlink", "rmdir"):
        hook(name)
    with files.replace_folder(sys.argv[1]) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text("two")
        (folder / "two").touch()
    sys.exit(7)
"""


def test_a_kill_at_any_step_leaves_one_whole_folder(tmp_path):
    outcomes = []
    for step in range(30):
        path = tmp_path / str(step) / "model"
        fill(path, "one")
        done = run(KILLED_FILL, path, step)
        if not path.exists():
            outcomes.append("recovered")
            assert recover_folder(path)
        assert not recover_folder(path)
        content = (path / "sub" / "weights").read_text()
        assert names(path) == sorted(["sub", content])
        outcomes.append(content)
        fill(path, "three")
        assert names(path.parent) == ["model"]
        assert names(path) == ["sub", "three"]
        if done.returncode == 7:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert outcomes.count("recovered") == 1
    assert outcomes[0] == "one"
    assert outcomes[-1] == "two"
    assert step > 8


def test_writing_again_after_a_crash_between_the_renames_keeps_what_was_whole(tmp_path):
    fill(tmp_path / ".model.old", "one")
    fill(tmp_path / ".model.new", "two")

    def refill():
        with replace_folder(tmp_path / "model"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refill()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["sub", "two"]


def test_a_half_filled_first_folder_is_never_taken_for_a_whole_one(tmp_path):
    (tmp_path / ".model.new").mkdir()
    assert not recover_folder(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_old_folder_comes_back_where_the_new_one_is_gone(tmp_path):
    (tmp_path / ".model.old").mkdir()
    assert recover_folder(tmp_path / "model")
    assert names(tmp_path) == ["model"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    write_text(tmp_path / "model", "mine")
    with pytest.raises(ConfigError, match="a file stands there"), replace_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "mine"


def test_a_full_disk_keeps_the_old_folder(tmp_path):
    fill(tmp_path / "model", "one")

    def refill():
        with replace_folder(tmp_path / "model") as folder:
            (folder / "weights").write_text("two")
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull, match=r"model.*needs at least 3 bytes"):
        refill()
    assert names(tmp_path / "model") == ["one", "sub"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    (tmp_path / "taken").write_text("")
    files.check_folder(tmp_path / "new" / "deeper")
    files.check_folder(tmp_path)
    for place in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        with pytest.raises(ConfigError, match="is a file - give a folder"):
            files.check_folder(place)


def test_what_is_read_is_not_written_over(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_text("a video")
    (tmp_path / "link.mp4").symlink_to(clip)
    files.check_apart(tmp_path / "new.csv", [clip])
    files.check_apart(tmp_path, [tmp_path])
    with pytest.raises(ConfigError, match="would be lost - choose another name"):
        files.check_apart(tmp_path / "link.mp4", ["no such file", clip])
