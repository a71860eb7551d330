"""Restoring images: what must be known of images beforehand, and a network's structure as that."""
