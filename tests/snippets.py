"""Read the code of a page of documentation, and run it as a reader would: from top to bottom, in one folder.

    python snippets.py PAGE [NAME ...]    in the folder that the page speaks of; NAMEs: runs that are there already

A block, or a line of one, that needs what a test has not is marked where readers see it, or on the line before:

    <!-- needs: camera -->              tubelet train ucf101     # needs: network
    ```bash

Trainings end after their first epoch, as if patience had ended them, and a search after its second trial, or one more
where it is resumed: nothing else is shorter than on the page. The blocks of Python of a page are one program; what a
block prints is not compared.
"""

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["Snippet", "read_snippets", "run_page"]

LANGUAGES = ("bash", "console", "python")
_FENCE = re.compile(
    r"^(?:<!-- needs: (?P<need>.+?) -->\n\n?)?^```(?P<language>\w*)(?P<title>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINE_NEED = re.compile(r"#.*?\bneeds: (?P<need>[^);:]+)")
_SHELL = re.compile(r"[|&;<>$`]|(?<!['\w/])\*")
FORK = multiprocessing.get_context("fork")
_COMMAND = re.compile(r"^(?:\$ |tubelet |pip |python |make |torchrun )", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """Hold what is run in one go, or what is not run and why."""

    line: int
    """Of the page, where the code begins."""
    language: str
    """One of `LANGUAGES`."""
    text: str
    need: str = ""
    """What a test has not; such a snippet is not run."""
    title: str = ""
    """Name of the file that the page gives the code."""


def read_snippets(page: str) -> list[Snippet]:
    """Read what a page has to run, in order.

    Raises:
        ValueError: commands in a block without a language, which nobody would notice to be wrong.
    """
    found = []
    for match in _FENCE.finditer(page):
        line = page.count("\n", 0, match.start("text")) + 1
        language, text = match["language"], match["text"]
        if language not in LANGUAGES:
            if not language and _COMMAND.search(text):
                raise ValueError(f"line {line}: commands in a block without a language - begin it with ```bash.")
            continue
        title = re.search(r'title="(.+?)"', match["title"])
        if language == "console":
            text = "\n".join(one[2:] for one in text.splitlines() if one.startswith("$ ")) + "\n"
        if match["need"] or language == "python":
            found.append(Snippet(line, language, text, match["need"] or "", title[1] if title else ""))
        else:
            found += _part(text, line)
    return found


def _part(text: str, line: int) -> list[Snippet]:
    """Take out the commands of a block that say what they need."""
    commands = re.split(r"(?<!\\)\n", text)
    needs = [match["need"].strip() if (match := _LINE_NEED.search(one)) else "" for one in commands]
    runs = "\n".join(one for one, need in zip(commands, needs, strict=True) if not need)
    marked = [Snippet(line, "bash", one, need) for one, need in zip(commands, needs, strict=True) if need]
    return [*([Snippet(line, "bash", runs)] if runs.strip() else []), *marked]


def run_page(page: Path) -> None:
    """Run the code of a page in the current folder.

    Commands run in forks of this process, which has loaded what they need and computed nothing: on most pages that is
    more work than all the commands themselves.

    Raises:
        SystemExit: a block failed; the text says which.
    """
    snippets = [one for one in read_snippets(page.read_text(encoding="utf-8")) if not one.need]
    shorten_trainings()
    with closing(Program()) as program:
        run_snippets(snippets, program, page.name)


def run_snippets(snippets: list[Snippet], program: "Program", page: str) -> None:
    """Run them in order.

    Raises:
        SystemExit: as `run_page`.
    """
    for snippet in snippets:
        where = f"{page}, line {snippet.line}"
        print(f"== {where}", flush=True)
        if snippet.language == "python":
            if snippet.title:
                Path(snippet.title).write_text(snippet.text, encoding="utf-8")
            is_right = program.run(snippet.text, where)
        else:
            is_right = run_commands(snippet.text)
        if not is_right:
            sys.exit(f"failed: {where}")


class Program:
    """Run the blocks of Python of a page one after the other, in one process of their own."""

    def __init__(self) -> None:
        self.process: BaseProcess | None = None

    def run(self, text: str, where: str) -> bool:
        """Run one more block; say whether it came to its end."""
        if self.process is None:
            self.pipe, far = FORK.Pipe()
            self.process = FORK.Process(target=_interpret, args=(far,))
            self.process.start()
            far.close()
        self.pipe.send((text, where))
        try:
            return bool(self.pipe.recv())
        except EOFError:
            return False

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with suppress(BrokenPipeError):
                self.pipe.send(None)
            self.process.join()


def _interpret(pipe: Connection) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    while block := pipe.recv():
        exec(compile(*block, "exec"), names)
        sys.stdout.flush()
        pipe.send(True)


def run_commands(text: str) -> bool:
    """Run the lines of a block up to the first that fails; say whether all came to their end."""
    lines = [line for line in re.split(r"(?<!\\)\n", text) if line.strip() and not line.startswith("#")]
    if not all(line.startswith("tubelet ") and not _SHELL.search(line) for line in lines):
        return subprocess.run(["bash", "-euxo", "pipefail", "-c", text]).returncode == 0
    for line in lines:
        print(f"+ {line}", flush=True)
        words = shlex.split(line.replace("\\\n", " "), comments=True)
        process = FORK.Process(target=_run_command, args=(words,))
        process.start()
        process.join()
        if process.exitcode:
            return False
    return True


def _run_command(words: list[str]) -> None:
    from tubelet.cli import main

    sys.argv = words
    main()


def shorten_trainings() -> None:
    """Let every training end after its first epoch, and every search after two trials, three where it goes on."""
    from tubelet.training import tuning
    from tubelet.training.session import Session

    finish, tune = Session._finish_epoch, tuning.tune

    def tune_little(data: object, *, search: tuning.Search, resume: bool = False, **rest: object) -> object:
        return tune(data, search=replace(search, trials=3 if resume else 2), resume=resume, **rest)

    tuning.tune = tune_little

    def finish_all(self: Session, *arguments: object) -> None:
        finish(self, *arguments)
        self.progress.is_done = True

    Session._finish_epoch = finish_all


if __name__ == "__main__":
    if sys.argv[1:2] == ["tubelet"]:
        from tubelet.cli import main

        if {"train", "pretrain", "tune"} & set(sys.argv[2:3]):
            shorten_trainings()
        main(sys.argv[2:])
    else:
        os.environ.setdefault("MPLBACKEND", "Agg")
        run_page(Path(sys.argv[1]).resolve())
