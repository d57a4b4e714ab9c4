"""fgseg: words to masks. Open-vocabulary dense segmentation with FG-CLIP.

::

    import fgseg

    seg = fgseg.load()
    result = seg.segment("photo.jpg", ["red", "blue circle"])

Names load on first use: importing fgseg loads neither torch nor matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
