"""Teach a trained model by example: features of clips, clips that are alike, and heads fitted in a moment."""

__all__: list[str] = []
