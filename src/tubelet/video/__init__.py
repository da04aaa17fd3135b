"""Read pixels: from any source to exact frames."""
