"""Know every recipe that ships: reading this module registers them."""

from tubelet.recipes import actions, finetuning, masked, organs, small

__all__ = ["SHIPPED"]

SHIPPED = (small, actions, organs, finetuning, masked)
"""The modules they lie in."""
