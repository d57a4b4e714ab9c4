"""Procedural scenes with exact labels. The embedded model is trained and measured on them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
