"""Training: procedural scenes, FG-CLIP's losses, and the recipe of the embedded model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
