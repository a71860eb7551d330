"""Autoregressive models: one value after the other, each given those before it."""
