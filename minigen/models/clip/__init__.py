"""Images and texts in one embedding space: CLIP, and what it is used for."""
