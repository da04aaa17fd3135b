"""Write one HTML file that opens anywhere: no script, no network, pictures inside."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from tubelet.files import write_text

__all__ = ["Html", "Picture", "write_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #57606a; --bad: #b3261e; --odd: #8a5a00;
  --text: #1f2328; --faint: #eceff2; --first: #0072b2; --second: #d55e00; --third: #009e73; --fourth: #cc79a7; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
p.soft, td.soft, figcaption { color: var(--soft); } .bad { color: var(--bad); } .odd { color: var(--odd); }
img { display: inline-block; border-radius: 3px; margin: 0 2px 2px 0; max-width: 100%; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .8rem; }
td.name { min-width: 9rem; } td img { max-width: 6rem; } h2 + p.soft { margin-top: 0; }
td .bad, td .odd { white-space: nowrap; } table.cards td:nth-child(3) { min-width: 19.5rem; } .grid img { width: 31%; }
@media (max-width: 40rem) {
  table.cards thead { display: none; } table.cards td { display: block; border: 0; padding: .1rem 0; min-width: 0; }
  table.cards tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0; }
}
figure { margin: 0; } figcaption { font-size: .85rem; }
.big { font-size: 2.6rem; font-weight: 650; line-height: 1.1; margin: .8rem 0 0; } .lead { font-size: 1.05rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem 2rem; }
.pair h2 { margin-top: 1rem; } svg.chart { width: 100%; height: auto; } svg.bar { width: 100%; height: .7rem; }
svg text { font-size: 12px; fill: var(--soft); } svg text.over { fill: #fff; } svg .soft { fill: var(--faint); }
table.bars td:last-child { min-width: 3.5rem; width: 25%; padding-top: .5rem; } summary { cursor: pointer; }
table.bars td:first-child { min-width: 6rem; } .legend { color: var(--soft); font-size: .85rem; }
.legend { margin: 0 0 0 3rem; } .legend span { margin-right: 1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8rem; height: .2rem; margin-right: .35rem; vertical-align: middle; }
.films { display: grid; grid-template-columns: repeat(5, 1fr); gap: .7rem; } .films img { width: 100%; margin: 0; }
.films figcaption { line-height: 1.3; margin-top: .2rem; }
.right { color: var(--third); } .wrong { color: var(--second); }
@media (max-width: 40rem) { .films { grid-template-columns: repeat(2, 1fr); } .big { font-size: 2.1rem; }
  table.classes :is(th, td):is(:nth-child(3), :nth-child(4)) { display: none; } }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #9aa4ae; --bad: #ff8a80; --odd: #e0a84a;
  --text: #e6edf3; --faint: #262c34; --first: #4ba3d9; --second: #f08a3c; --third: #35c79a; --fourth: #e0a0c4; } }
"""


class Html(str):
    """Mark a text as HTML: everything else that goes into a page is escaped."""

    __slots__ = ()

    @classmethod
    def tag(cls, name: str, *content: str, kind: str = "") -> "Html":
        """Make an element around content, with a CSS class where `kind` is given."""
        inner = "".join(cls.escape(part) for part in content)
        attribute = f' class="{html.escape(kind)}"' if kind else ""
        return cls(f"<{name}{attribute}>{inner}</{name}>")

    @classmethod
    def escape(cls, text: str) -> str:
        """Return a text as HTML shows it; HTML itself stays."""
        return text if isinstance(text, cls) else html.escape(text.encode("utf-8", "replace").decode("utf-8"))

    @classmethod
    def table(
        cls, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), kind: str = ""
    ) -> "Html":
        """Make a table; `numbers` are the columns that are aligned to the right; `kind` is its CSS class.

        The rows of a table of kind `cards` stand one cell below the other where the screen is narrow.
        """
        titles = cls(
            "".join(cls.tag("th", title, kind="number" if i in numbers else "") for i, title in enumerate(head))
        )
        lines = [
            cls.tag(
                "tr",
                cls("".join(cls.tag("td", cell, kind="number" if i in numbers else "") for i, cell in enumerate(row))),
            )
            for row in rows
        ]
        body = cls(cls.tag("thead", cls.tag("tr", titles)) + cls.tag("tbody", cls("".join(lines))))
        return cls.tag("div", cls.tag("table", body, kind=kind), kind="wide")


class Picture(Html):
    """Embed a JPEG or GIF picture."""

    __slots__ = ()

    @classmethod
    def of(cls, data: bytes, description: str) -> "Picture":
        """Make the element; `description` is what those hear who cannot see it."""
        kind = "gif" if data.startswith(b"GIF8") else "jpeg"
        text = base64.b64encode(data).decode("ascii")
        return cls(f'<img alt="{html.escape(description)}" src="data:image/{kind};base64,{text}">')


def write_page(path: str | Path, title: str, body: Sequence[Html]) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the file.
        title: shown on top and in the browser's tab.
        body: its elements, in order.
    """
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += Html.tag("title", title)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head += f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style>'
    content = Html.tag("h1", title) + "".join(body)
    write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{content}</body></html>\n')
