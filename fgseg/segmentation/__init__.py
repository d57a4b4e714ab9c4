"""Segmenting one image: encoded image, encoded prompts, the scores of the two, and the result."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
