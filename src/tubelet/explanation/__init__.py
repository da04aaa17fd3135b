"""Show where and when a classifier saw what it says, and measure whether that is true."""

__all__: list[str] = []
