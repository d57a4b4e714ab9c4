"""Opening and writing files, with errors of one line: `names`, `opening`, `writers`, `temporary`, `output_errors`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
