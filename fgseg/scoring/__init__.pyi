from .presence import (
    automatic_threshold as automatic_threshold,
)
from .refine import guided_filter as guided_filter, pamr as pamr, refined as refined
from .resolution import Resolution as Resolution, parse_resolution as parse_resolution
from .windows import crops as crops, stitch_chunks as stitch_chunks, window_boxes as window_boxes
