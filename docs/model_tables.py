"""Write the tables of docs/models/*.md from the registry: python docs/model_tables.py

What stands between `<!-- models: PATTERN -->` or `<!-- recipes: PATTERN -->` and `<!-- end -->` is replaced; PATTERN is
a glob over the names of models, several with spaces between them.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from tubelet.models import find_card, list_models
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.shipped import SHIPPED as SHIPPED  # registers them

FOLDER = Path(__file__).parent / "models"
_BLOCK = re.compile(r"(<!-- (?P<what>models|recipes): (?P<patterns>.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """Return a page with its tables as the registry has them now."""
    return _BLOCK.sub(_make_block, page)


def _make_block(match: re.Match[str]) -> str:
    patterns = match["patterns"].split()
    rows = list_costs(patterns) if match["what"] == "models" else list_recipes(patterns)
    return match[1] + "\n" + "".join(f"{row}\n" for row in rows) + "\n" + match[4]


def list_costs(patterns: list[str]) -> Iterator[str]:
    """Yield a table of models: parameters, cost of one clip, what a clip is."""
    yield "| model | parameters | GMACs a clip | input |"
    yield "|---|---:|---:|---|"
    for name in list_models():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            card = find_card(name)
            spec = card.input_spec
            size = f"{spec.frames} x {spec.height} x {spec.width}"
            shown = f"{spec.frames} vectors of {spec.channels:,}" if spec.kind == "features" else size
            yield f"| `{name}` | {card.parameters:,} | {card.macs / 1e9:,.2f} | {shown} |"


def list_recipes(patterns: list[str]) -> Iterator[str]:
    """Yield a table of the recipes whose model is one of these."""
    yield "| recipe | model | for |"
    yield "|---|---|---|"
    for name in sorted(RECIPES):
        listed = RECIPES[name]
        model = listed.make().model.name
        if any(fnmatchcase(model, pattern) for pattern in patterns):
            yield f"| `{name}` | `{model}` | `tubelet {listed.command}` |"


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
