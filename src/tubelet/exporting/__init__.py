"""Export: write a model as a file that other programs run, and prove that it gives the same answers."""

__all__: list[str] = []
