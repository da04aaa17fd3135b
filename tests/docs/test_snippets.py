"""Run every command and every line of Python that the documentation shows."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from reader_folder import SNIPPETS, make_reader_folder, run_in
from snippets import read_snippets

ROOT = Path(__file__).parents[2]
# The log states commands that took hours, with what they gave on that day.
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md")]
NEEDS = ("network", "camera", "cluster", "GPU", "a browser", "a checkout", "a run that failed", "an account", "timm")


def label(page):
    return page.relative_to(ROOT).as_posix()


def list_marked():
    """Give each snippet that is not run as a test that is skipped: the summary of pytest then lists them."""
    for page in PAGES:
        for snippet in read_snippets(page.read_text(encoding="utf-8")):
            if snippet.need:
                first = snippet.text.strip().splitlines()[0].split("  ")[0]
                reason = f"{label(page)}:{snippet.line} needs {snippet.need}: {first}"
                yield pytest.param(snippet, marks=pytest.mark.skip(reason=reason), id=f"{page.stem}-{snippet.line}")


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory):
    return make_reader_folder(tmp_path_factory.mktemp("reader"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if read_snippets(page.read_text(encoding="utf-8"))], ids=label)
def test_what_a_page_shows_runs(page, reader_folder, tmp_path):
    folder = tmp_path / "reader"
    shutil.copytree(reader_folder, folder, symlinks=True)
    for made in re.findall(r'--name (mine|seen)(?![\w-])|name="(mine|seen)"', page.read_text(encoding="utf-8")):
        shutil.rmtree(folder / "runs" / "".join(made), ignore_errors=True)  # the page makes it itself
    done = run_in(folder, sys.executable, SNIPPETS, page)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("snippet", list(list_marked()))
def test_what_is_marked_is_listed(snippet):
    """Never runs: its summary is the list."""


def test_marks_name_what_a_reader_knows():
    needs = {
        (label(page), snippet.need)
        for page in PAGES
        for snippet in read_snippets(page.read_text(encoding="utf-8"))
        if snippet.need and not snippet.need.startswith(NEEDS)
    }
    assert needs == set()


def test_blocks_are_read_with_what_they_need():
    page = """
```bash
tubelet train clips/  # quick
tubelet train ucf101 \\
  --fold 2            # an official one (needs: network)
```

<!-- needs: camera -->

```console
$ tubelet predict runs/mine 0
walking
```

```python title="mine.py"
x = 1
```
"""
    train, fetch, camera, python = read_snippets(page)
    assert (train.text.strip(), train.need) == ("tubelet train clips/  # quick", "")
    assert fetch.need == "network"
    assert "--fold 2" in fetch.text
    assert (camera.text, camera.need) == ("tubelet predict runs/mine 0\n", "camera")
    assert (python.line, python.title, python.need) == (16, "mine.py", "")
    with pytest.raises(ValueError, match="line 2: commands in a block without a language"):
        read_snippets("```\ntubelet train clips/\n```\n")
