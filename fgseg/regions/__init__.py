"""Regions: features pooled over boxes, and connected components of masks with their outlines and measures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
