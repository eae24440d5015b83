"""Engines that load weights: the pipelines of diffusers, in torch."""
