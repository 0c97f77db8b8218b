"""Conditions: what is known about an image, turned into one of the denoiser's ports."""
