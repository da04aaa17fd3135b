"""Make worlds with known answers: small clips and volumes of which it is known in advance who can tell them apart.

A model, a sampler or a metric that is given a world has to give the published answer: a training that works reaches
`expected["ordered"]`, a probe of single frames stays at `expected["middle_frame"]`, and so on. No download is needed.
"""

from tubelet.video.synthetic.folder import make_world, seed_clip, write_video
from tubelet.video.synthetic.organs import ORGANS, ORGANS_EXPECTED, make_organs
from tubelet.video.synthetic.worlds import WORLDS, World, draw_clip

__all__ = [
    "ORGANS",
    "ORGANS_EXPECTED",
    "WORLDS",
    "World",
    "draw_clip",
    "make_organs",
    "make_world",
    "seed_clip",
    "write_video",
]
