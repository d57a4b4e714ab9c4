from .labels import label_map as label_map, running_label_map as running_label_map
from .maps import shrink_map as shrink_map, upsample_map as upsample_map, upsample_maps as upsample_maps
