"""Count what a server does, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Monitor"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CLIPS = (1, 2, 4, 8, 16, 32, 64)


class Monitor:
    """Hold the figures of one server."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(
            "tubelet_requests", "Answers, by what was asked and status.", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "tubelet_request_seconds", "Time to an answer.", ["path"], buckets=_SECONDS, registry=own
        )
        self.refusals = Counter("tubelet_refusals", "Refusals, by code.", ["code"], registry=own)
        self.body_bytes = Counter("tubelet_body_bytes", "Bytes of bodies that were read.", registry=own)
        self.decoding = Histogram("tubelet_decode_seconds", "Time to decode an upload.", buckets=_SECONDS, registry=own)
        self.forward = Histogram("tubelet_forward_seconds", "Time of a forward pass.", buckets=_SECONDS, registry=own)
        self.batches = Histogram("tubelet_batch_clips", "Clips of a forward pass.", buckets=_CLIPS, registry=own)
        self.in_work = Gauge("tubelet_requests_in_work", "Requests that have a place.", registry=own)
        self.sockets = Gauge("tubelet_streams_open", "Live streams.", registry=own)
        self.dropped = Counter(
            "tubelet_stream_frames_dropped", "Frames of live streams that came too fast.", registry=own
        )
        self.restarts = Gauge("tubelet_decoder_restarts", "Decode workers that were killed or died.", registry=own)

    def note_batch(self, size: int, seconds: float) -> None:
        """Note a forward pass."""
        self.batches.observe(size)
        self.forward.observe(seconds)

    def render(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)
