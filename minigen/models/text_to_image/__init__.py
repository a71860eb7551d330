"""Drawing what a sentence says: the GANs of the lecture that are given texts."""
