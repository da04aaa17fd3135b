"""Train: the loop, the optimizer, the run folder."""

__all__: list[str] = []
