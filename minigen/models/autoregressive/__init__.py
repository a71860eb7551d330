"""Autoregressive models of pixels and sequences, and how to decode them."""
