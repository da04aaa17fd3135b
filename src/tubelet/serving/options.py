"""Hold what the operator of a server may choose."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from tubelet.errors import ConfigError

__all__ = ["ServingOptions"]


@dataclass(frozen=True)
class ServingOptions:
    """State how much a server takes on, and from whom."""

    decoders: int = 2
    """Processes that decode; each may take 3 GB."""
    batch: int = 8
    """Clips that go through the model together, at most."""
    wait_ms: float = 4.0
    """Milliseconds that the first clip waits for others."""
    places: int = 48
    """Requests in work at a time; more are refused with 503 and Retry-After."""
    sockets: int = 8
    """Live streams at a time."""
    upload_mb: int = 200
    """Size of an upload in MB (1,000,000 bytes), at most."""
    body_s: float = 30.0
    """Seconds that a body, or the head of a request, may take to arrive."""
    decode_s: float = 30.0
    """Seconds that decoding may take before its process is killed."""
    hosts: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Names that browsers may call the server by, such as video.example.org; on this machine also localhost."""

    def __post_init__(self) -> None:
        for name in ("decoders", "batch", "places", "sockets", "upload_mb", "body_s", "decode_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"serve: {name} must be positive - found {getattr(self, name)} - give at least 1.")
        if self.wait_ms < 0:
            raise ConfigError(f"serve: wait_ms must not be negative - found {self.wait_ms} - 0 never waits.")

    @property
    def upload_bytes(self) -> int:
        """Return the size of an upload, at most."""
        return self.upload_mb * 1_000_000
