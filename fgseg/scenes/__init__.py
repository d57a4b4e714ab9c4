"""Procedural scenes with exact labels: what the embedded model is trained and measured on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
