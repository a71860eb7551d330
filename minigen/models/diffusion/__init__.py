"""Diffusion models: add noise step by step, and learn to remove it."""
