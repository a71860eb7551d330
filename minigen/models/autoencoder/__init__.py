"""Autoencoders, and a use for their codes: classification."""
