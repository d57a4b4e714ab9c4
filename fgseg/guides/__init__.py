"""What guides scores besides the words: alike patches and pixels, and regions of the image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
