"""What guides scores besides the words: models whose features say which patches belong together, and regions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
