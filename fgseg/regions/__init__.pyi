from .components import (
    boxed_components as boxed_components,
    fill_holes as fill_holes,
    remove_small as remove_small,
    remove_small_labels as remove_small_labels,
)
from .polygons import (
    PixelPolygon as PixelPolygon,
    inset_ring as inset_ring,
    pixel_polygons as pixel_polygons,
    single_ring as single_ring,
)
from .pooling import (
    box_features as box_features,
    box_weights as box_weights,
    checked_boxes as checked_boxes,
    pool_boxes as pool_boxes,
)
from .specks import join_gaps as join_gaps, join_parts as join_parts, quarter_patch as quarter_patch
from .table import region_table as region_table
