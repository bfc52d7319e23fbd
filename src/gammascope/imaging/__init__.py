"""From bytes to what a detector sees, and back: decode, views, codecs."""
