"""Labelled images: standard benchmarks, folders, COCO files and procedural scenes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
