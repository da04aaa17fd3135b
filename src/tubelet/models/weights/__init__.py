"""Turn the weights that others have published into ours: pure maps from key to key, one file a family."""

__all__: list[str] = []
