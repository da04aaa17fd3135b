"""Tell volumes from clips of video, where nobody says which they are."""

from tubelet.data.arrays import read_headers
from tubelet.data.manifest import Manifest

__all__ = ["holds_volumes"]


def holds_volumes(manifest: Manifest) -> bool:
    """Tell whether every sample is a gray array as deep as it is high and wide.

    A volume usually is, and a clip hardly ever: it has colors, or fewer frames than its pictures have rows.

    Cost: reads the headers of the arrays, no voxel.
    """
    places = {(sample.source, sample.member) for sample in manifest.samples}
    return all(member is not None and _is_cube(source, member) for source, member in places)


def _is_cube(source: str, member: str) -> bool:
    header = read_headers(source).get(member)
    if header is None or header.dtype != "uint8":
        return False
    size = header.shape[1:4]
    return len(size) == 3 and len(set(size)) == 1 and header.shape[4:] in ((), (1,))
