"""Make worlds with known answers: small videos of which it is known in advance who can tell their classes apart."""

from tubelet.video.synthetic.folder import make_world, seed_clip, write_video
from tubelet.video.synthetic.worlds import WORLDS, World, draw_clip

__all__ = ["WORLDS", "World", "draw_clip", "make_world", "seed_clip", "write_video"]
