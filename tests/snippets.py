"""Read the code of a page of documentation, and run it as a reader would: from top to bottom, in one folder.

    python snippets.py PAGE [NAME ...]    in the folder that the page speaks of; NAMEs: runs that are there already

A block, or a line of one, that needs what a test has not is marked where readers see it, or on the line before:

    <!-- needs: camera -->              tubelet train ucf101     # needs: network
    ```bash

Trainings end after their first epoch, as if patience had ended them, and a search after its second trial, or one more
where it is resumed: nothing else is shorter than on the page. The blocks of Python of a page are one program; what a
block prints is not compared.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["Snippet", "read_snippets", "run_page"]

LANGUAGES = ("bash", "console", "python")
_FENCE = re.compile(
    r"^(?:<!-- needs: (?P<need>.+?) -->\n\n?)?^```(?P<language>\w*)(?P<title>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINE_NEED = re.compile(r"#.*?\bneeds: (?P<need>[^);:]+)")
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

    Raises:
        SystemExit: a block failed; the text says which.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    snippets = [one for one in read_snippets(page.read_text(encoding="utf-8")) if not one.need]
    if any(one.language == "python" for one in snippets):
        shorten_trainings()
    for snippet in snippets:
        where = f"{page.name}, line {snippet.line}"
        print(f"== {where}", flush=True)
        if snippet.language == "python":
            if snippet.title:
                Path(snippet.title).write_text(snippet.text, encoding="utf-8")
            exec(compile(snippet.text, where, "exec"), names)
        elif subprocess.run(["bash", "-euxo", "pipefail", "-c", snippet.text]).returncode:
            sys.exit(f"failed: {where}")


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
