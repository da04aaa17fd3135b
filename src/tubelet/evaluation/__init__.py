"""Measure: accuracy with intervals, and whether a model uses time."""

__all__: list[str] = []
