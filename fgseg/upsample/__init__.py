"""From the grid of patches to pixels: bilinear score maps, and label maps without the maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
