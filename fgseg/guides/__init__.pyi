from .region_maps import region_map_of as region_map_of
from .votes import vote as vote
