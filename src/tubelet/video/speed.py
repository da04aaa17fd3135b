"""Play a video faster or slower than it was recorded, before its frames are chosen."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.spec import InputSpec

__all__ = ["plan_at_speed"]


def plan_at_speed(
    info: VideoInfo,
    spec: InputSpec,
    speed: float,
    *,
    views: int = 1,
    training: bool = False,
    generator: np.random.Generator | None = None,
) -> Int64[np.ndarray, "views frames"]:
    """Choose frames as `plan` does of the video played at `speed`: at 2 every second frame is shown, at 0.5 each twice.

    Clips that spread over the whole video are the same at any speed; dense ones cover `speed` times as much of it.

    Example:
        >>> info = VideoInfo(num_frames=48, height=240, width=320, fps=24.0, duration_s=2.0, codec="h264", rotation=0)
        >>> plan_at_speed(info, InputSpec(frames=4, sampling="first"), 2.0).tolist()
        [[0, 2, 4, 6]]
    """
    if speed == 1:
        return plan(info, spec, views=views, training=training, generator=generator)
    shown = max(1, int(info.num_frames / speed))
    played = replace(info, num_frames=shown, duration_s=info.duration_s / speed)
    rows = plan(played, spec, views=views, training=training, generator=generator)
    return np.minimum((rows * speed).astype(np.int64), info.num_frames - 1)
