"""Autoencoders, and what their codes are good for."""
