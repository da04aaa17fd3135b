"""Classify: load a model, ask it about sources."""

__all__: list[str] = []
