"""Measure how fast a model predicts on this machine, alone or beside transformers."""

__all__: list[str] = []
