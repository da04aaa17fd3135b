"""Make the notebooks of examples/notebooks of the Python files beside them, without outputs.

    python examples/make_notebooks.py

The Python files are what is written and reviewed: `# %%` begins a cell of code, `# %% [markdown]` one of text. In
Jupyter with jupytext, either of the two may be opened.
"""

from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

__all__ = ["FOLDER", "convert"]

FOLDER = Path(__file__).parent / "notebooks"


def convert(source: Path) -> NotebookNode:
    """Turn a Python file with `# %%` cells into a notebook; equal files give equal notebooks."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        jupytext={"formats": "ipynb,py:percent"},  # so that Jupyter stores both, where jupytext is installed
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"  # jupytext draws them by lot
    nbformat.validate(notebook)
    return notebook


def main() -> None:
    """Write every notebook anew."""
    for source in sorted(FOLDER.glob("*.py")):
        target = source.with_suffix(".ipynb")
        target.write_text(nbformat.writes(convert(source)) + "\n", encoding="utf-8")
        print(target.relative_to(FOLDER.parent))


if __name__ == "__main__":
    main()
