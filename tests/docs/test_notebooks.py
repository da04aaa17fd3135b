"""Hold that the notebooks of examples/ are those of the files beside them, and that each runs by itself, offline."""

import base64
import importlib.util
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
PICTURES = {"01_data": 5, "02_training": 3, "03_evaluation": 4, "04_inference": 2, "05_volumes": 3}
GRIDS = {"03_evaluation": 25, "05_volumes": 25}


def convert(source: Path) -> nbformat.NotebookNode:
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "examples" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.convert(source)


def test_every_notebook_is_that_of_the_file_beside_it_without_outputs():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES == sorted(PICTURES)
    for name in NAMES:
        stored = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
        assert stored == nbformat.writes(convert(FOLDER / f"{name}.py")) + "\n", f"{name}: run 'make notebooks'"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_by_itself_without_a_network_and_shows_its_pictures(name, tmp_path, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    kinds = Counter(kind for output in outputs for kind in output.get("data", {}))
    assert kinds["image/png"] == PICTURES[name]
    assert kinds["application/vnd.jupyter.widget-view+json"] == (name in GRIDS)
    assert len(list_films(notebook)) == GRIDS.get(name, 0)


def list_films(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return the moving pictures that the notebook's widgets hold."""
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    buffers = [buffer for one in widgets.get("state", {}).values() for buffer in one.get("buffers", [])]
    films = [base64.b64decode(buffer["data"]) for buffer in buffers]
    return [film for film in films if film.startswith(b"GIF89a")]
