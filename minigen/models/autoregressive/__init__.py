"""Autoregressive models of pixels and sequences."""
