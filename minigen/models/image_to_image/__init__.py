"""Translating images: what belongs to an image, learnt from pairs or from two collections."""
