"""Image-to-image translation, learnt from pairs or from two unpaired collections."""
