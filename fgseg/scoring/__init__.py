"""Scores of an image with a set of prompts: resolution, windows, presence and refinement."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
