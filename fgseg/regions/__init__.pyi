from .components import (
    boxed_parts as boxed_parts,
    connected_parts as connected_parts,
    fill_holes as fill_holes,
    remove_small as remove_small,
    remove_small_labels as remove_small_labels,
)
from .polygons import PixelPolygon as PixelPolygon, pixel_polygons as pixel_polygons, single_ring as single_ring
from .pooling import box_features as box_features, box_weights as box_weights
from .table import region_table as region_table
