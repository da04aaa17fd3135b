"""Read `--shard i/n`: which part of a work that several processes share."""

from tubelet.errors import ConfigError

__all__ = ["parse_part"]


def parse_part(text: str | None) -> tuple[int, int]:
    """Take apart `2/8`; without it the work is one part.

    Raises:
        ConfigError: it is no part.
    """
    number, slash, count = (text or "1/1").partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise ConfigError(f"--shard is the part i of n, counted from 1 - found {text!r} - write such as 2/8.")
