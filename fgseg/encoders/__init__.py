"""Encoders: images and texts to unit features, from checkpoints of CLIP, FG-CLIP 1 and FG-CLIP 2."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
