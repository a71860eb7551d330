"""Autoregressive models of images and sequences, and rules for decoding them."""
