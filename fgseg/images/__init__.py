"""Images and label maps: files, arrays and PIL images to (H, W, 3) uint8 RGB, and RGB and label maps to files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
