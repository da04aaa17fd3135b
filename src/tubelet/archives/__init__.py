"""Unpack archives that somebody else made: into a folder of their own, within limits, and nowhere else."""

from tubelet.archives.guard import ArchiveError, Limits
from tubelet.archives.unpacking import unpack

__all__ = ["ArchiveError", "Limits", "unpack"]
