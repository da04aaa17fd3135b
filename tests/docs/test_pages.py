"""The pages say what the code says: names, numbers, codes, commands, drawings."""

import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest
from cyclopts import App

import tubelet
from tubelet.cli import app
from tubelet.config import describe_fields
from tubelet.errors import TubeletError
from tubelet.models import list_models
from tubelet.recipes.recipe import Recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FAMILIES = sorted((DOCS / "models").glob("*.md"))


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def load_script(name):
    """Load a program that makes a part of the documentation."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drawings_are_what_their_program_draws():
    drawings = load_script("drawings").DRAWINGS
    drawn = {name: draw() for name, draw in drawings.items()}
    stored = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "images").iterdir()}
    assert drawn == stored, "python docs/drawings.py writes them anew"


@pytest.mark.parametrize("page", FAMILIES, ids=lambda page: page.stem)
def test_tables_of_models_and_recipes_are_those_of_the_registry(page):
    text = page.read_text(encoding="utf-8")
    assert load_script("model_tables").fill(text) == text, "python docs/model_tables.py writes them anew"


def test_every_model_and_its_recipes_have_their_page():
    pages = [page.read_text(encoding="utf-8") for page in FAMILIES]
    homes = {name: sum(f"\n| `{name}` | " in page for page in pages) for name in list_models()}
    assert {name: count for name, count in homes.items() if count != 1} == {}
    for page in pages:
        assert "## Sizes" in page
        assert "## Recipes" in page
        assert "\nSource: " in page


def list_codes():
    """Give the codes of all errors of the package, wherever they are defined."""
    for module in pkgutil.walk_packages(tubelet.__path__, "tubelet."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = [TubeletError]
    for kind in kinds:
        kinds += [one for one in kind.__subclasses__() if one.__module__.startswith("tubelet.")]
    return {kind.code for kind in kinds}


def test_every_error_code_has_its_entry_and_no_other():
    part = read("troubleshooting.md").partition("## Error codes")[2]
    assert set(re.findall(r"^\| `(\w+)` \| \S.*\| \S.* \|$", part, re.MULTILINE)) == list_codes()


def list_commands(group, name=""):
    for key in group:
        if not key.startswith("-"):
            child = group[key]
            inner = list(list_commands(child, f"{name}{key} ")) if isinstance(child, App) else []
            yield from inner or [f"{name}{key}"]


def test_every_command_has_its_place():
    page = read("commands.md")
    commands = list(list_commands(app))
    assert {"train", "data check"} <= set(commands)
    for command in commands:
        first, _, second = command.partition(" ")
        part = re.search(rf"^## tubelet {first}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert part, command
        assert not second or re.search(rf"\b{command}\b", part[1]), command


def test_fields_that_the_table_of_configs_names_exist():
    tables = read("coming-from.md").partition("## From config")[2]
    sections = "data|model|input|augmentation|optimizer|loss|finetuning|training"
    named = set(re.findall(rf"`((?:{sections})\.\w+)`", tables))
    assert len(named) > 40
    assert named - set(describe_fields(Recipe)) == set()


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert pages - set(re.findall(r": (\S+\.md)$", nav, re.MULTILINE)) == set()


def test_every_public_name_is_in_the_api():
    entries = re.findall(r"^::: (\S+)$", read("api.md"), re.MULTILINE)
    places = {name: f"{getattr(tubelet, name).__module__}.{name}" for name in tubelet.__all__}
    shown = [name for name, place in places.items() if any(f"{place}.".startswith(f"{entry}.") for entry in entries)]
    assert sorted(set(places) - set(shown)) == []
