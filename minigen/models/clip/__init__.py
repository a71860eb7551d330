"""Images and texts in one space: CLIP, and what it is used for."""
