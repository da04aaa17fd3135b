"""Hold every decoder to the same frames, the same times and the same manners."""

import os

import av
import numpy as np
import pytest

from tubelet.errors import FrameOutOfRange, TubeletError, UnknownName, VideoError
from tubelet.video.decoders import DECODERS
from tubelet.video.source import Video

# Where a backend cannot be loaded the contract cannot be held; on CI that is a failure, elsewhere a stated skip.
ON_CI = os.environ.get("CI") == "true"


def write_clip(path, codec="libx264", frames=40, size=(48, 64), options=None, pix_fmt="yuv420p"):
    generator = np.random.default_rng(3)
    height, width = size
    base = generator.integers(0, 255, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = (
            {"x264-params": "cpu-independent=1", **(options or {})} if codec == "libx264" else options or {}
        )
        for number in range(frames):
            picture = np.roll(base, number * 3, axis=1)
            picture[:8, :8] = number * 6
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {
        "h264.mp4": write_clip(folder / "h264.mp4", options={"bf": "3", "g": "12"}),
        "h264.mkv": write_clip(folder / "h264.mkv", options={"bf": "2"}),
        "mpeg4.avi": write_clip(folder / "mpeg4.avi", "mpeg4", options={"qscale": "3"}),
        "vp9.webm": write_clip(folder / "vp9.webm", "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}),
    }


@pytest.fixture(params=list(DECODERS))
def decoder(request, clips):
    try:
        Video(clips["h264.mp4"], decoder=request.param).close()
    except TubeletError as error:
        if error.code == "missing_extra" and not ON_CI:
            pytest.skip(str(error))
        raise
    return request.param


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "vp9.webm"])
def test_every_decoder_gives_the_frames_of_a_plain_sequential_read(decoder, clips, name):
    with av.open(str(clips[name])) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with Video(clips[name], decoder=decoder) as video:
        assert video.info.num_frames == len(expected) == 40
        wanted = [39, 0, 17, 17, 5, 38, 1, 20]
        clip = video.frames_at(wanted)
    assert clip.pixels.dtype == np.uint8
    assert clip.times_s.tolist() == pytest.approx([index / 10 for index in wanted], abs=1e-3)
    for index, picture in zip(wanted, clip.pixels, strict=True):
        # Another build of FFmpeg may round colors otherwise; another frame would differ by dozens of levels.
        assert np.abs(picture.astype(int) - expected[index]).mean() < 2.0, (decoder, index)
        nearest = min(range(40), key=lambda other: np.abs(picture.astype(int) - expected[other]).mean())
        assert nearest == index


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "vp9.webm"])
def test_every_decoder_gives_frames_one_by_one_as_it_gives_them_together(decoder, clips, name):
    wanted = [*range(3), *range(9, 40, 2)]
    with Video(clips[name], decoder=decoder) as video:
        together = video.frames_at(wanted).pixels
        one_by_one = list(video.iterate(wanted))
        assert np.array_equal(np.stack(one_by_one), together)
        assert np.array_equal(video.frames_at([5]).pixels, video.frames().pixels[[5]])  # and may be asked again
        with pytest.raises(FrameOutOfRange, match=r"frame 3 was asked for out of order"):
            video.iterate([4, 3])


def test_every_decoder_refuses_an_index_out_of_range_and_names_the_file(decoder, clips):
    with Video(clips["h264.mp4"], decoder=decoder) as video:
        for index in (40, -1):
            with pytest.raises(TubeletError, match=r"h264\.mp4") as caught:
                video.frames_at([0, index])
            assert caught.value.code == "frame_out_of_range"


def test_every_decoder_survives_being_closed_twice_and_then_says_that_it_is_closed(decoder, clips):
    video = Video(clips["h264.mp4"], decoder=decoder)
    video.close()
    video.close()
    with pytest.raises(VideoError, match=r"h264\.mp4.*it is closed"):
        video.frames_at([0])


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "vp9.webm"])
def test_every_decoder_knows_all_times_before_it_decodes(decoder, clips, name):
    with Video(clips[name], decoder=decoder) as video:
        assert video.times_s.tolist() == pytest.approx([index / 10 for index in range(40)], abs=1e-3)
        assert video.frames_at([39, 7]).times_s.tolist() == video.times_s[[39, 7]].tolist()


def test_every_decoder_reads_from_bytes(decoder, clips):
    with Video(clips["h264.mp4"].read_bytes(), decoder=decoder) as video:
        assert video.info.num_frames == 40
        assert len(video.frames_at([3])) == 1


def test_an_unknown_decoder_is_refused_with_the_nearest_name(clips):
    with pytest.raises(UnknownName, match="did you mean 'pyav'"):
        Video(clips["h264.mp4"], decoder="pyvv")
