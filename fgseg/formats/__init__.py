"""What other tools read: COCO, GeoJSON, YOLO, LabelMe, CSV and supervision's detections."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
