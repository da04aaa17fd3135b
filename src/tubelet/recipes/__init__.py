"""State what a run depends on: a tree of plain values, and the recipes that ship."""

__all__: list[str] = []
