"""Diffusion models: add noise step by step, and learn to take it away."""
