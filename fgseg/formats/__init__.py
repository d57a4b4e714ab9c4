"""Formats that other tools read: COCO, GeoJSON, YOLO, LabelMe, JSON, CSV and supervision's detections.

Every export has one entry for each region of a region table, in the order of the table, so that files
made of one result agree. A component that the table leaves out (`min_area`) is in none of them. The masks give the
shapes; they are computed one class at a time, and only for classes that have a region. Functions return values, and
the caller writes the files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
