"""Segmentation of images larger than memory, which are read by region and labelled in strips."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
