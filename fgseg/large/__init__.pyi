from .result import (
    LARGE_FORMATS as LARGE_FORMATS,
    MAX_REGIONS as MAX_REGIONS,
    LargeSegmentation as LargeSegmentation,
    segment_tiled as segment_tiled,
)
