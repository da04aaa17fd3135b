"""A clip that is cut out holds exactly the frames of its span, at their distances."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tubelet.errors import FrameOutOfRange, NotAVideo
from tubelet.video import encoding
from tubelet.video.cutting import cut_clip
from tubelet.video.source import Video


def write_ramp(path, times, size=(24, 32), codec="libx264"):
    """Write frames whose gray is 4 times their number, shown at these times; key frames only at the beginning."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "1000", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv444p" if size[1] % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 4 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def grays(clip):
    return clip.pixels.reshape(len(clip.pixels), -1).mean(axis=1) / 4


def test_a_cut_holds_the_frames_of_its_span_far_from_any_key_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 24 * 32 * 3 * 16)  # several chunks
    source = write_ramp(tmp_path / "long.mp4", [number / 25 for number in range(60)])
    assert cut_clip(source, tmp_path / "new" / "cut.mp4", 0.4, 2.0) == 40
    with Video(tmp_path / "new" / "cut.mp4") as video:
        clip = video.frames()
    assert len(clip.pixels) == 40
    np.testing.assert_allclose(clip.times_s, np.arange(40) / 25, atol=1e-4)
    np.testing.assert_allclose(grays(clip), np.arange(10, 50), atol=0.5)
    with av.open(str(tmp_path / "new" / "cut.mp4")) as container:
        assert container.streams.video[0].start_time == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cut.mp4"]


def test_frames_that_come_at_uneven_times_keep_their_distances(tmp_path):
    times = [0.0, 0.1, 0.15, 0.5, 0.51, 1.0]
    source = write_ramp(tmp_path / "uneven.mp4", times)
    assert cut_clip(source, tmp_path / "cut.mp4", 0.12, 99.0) == 4
    with Video(tmp_path / "cut.mp4") as video:
        np.testing.assert_allclose(video.times_s, [0.0, 0.35, 0.36, 0.85], atol=1e-3)


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    source = write_ramp(tmp_path / "odd.mp4", [0.0, 0.1], size=(25, 33))
    cut_clip(source, tmp_path / "cut.mp4", 0.0, 1.0)
    with Video(tmp_path / "cut.mp4") as video:
        assert (video.info.height, video.info.width) == (24, 32)


def test_gray_volumes_of_images_are_cut_too(tmp_path):
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for number in range(4):
        Image.new("L", (16, 16), 50 * number).save(tmp_path / "frames" / f"{number}.png")
    assert cut_clip(tmp_path / "frames", tmp_path / "cut.mp4", 0.04, 0.12) == 2


def test_a_span_without_a_frame_and_a_file_that_is_no_video_leave_nothing(tmp_path):
    source = write_ramp(tmp_path / "short.mp4", [0.0, 0.1])
    with pytest.raises(FrameOutOfRange, match=r"cannot cut 5 s to 9 s .* begins at 0\.100 s"):
        cut_clip(source, tmp_path / "cut.mp4", 5.0, 9.0)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(NotAVideo):
        cut_clip(tmp_path / "text.mp4", tmp_path / "cut.mp4", 0.0, 1.0)
    assert not (tmp_path / "cut.mp4").exists()
