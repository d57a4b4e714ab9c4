from .loading import GUIDES as GUIDES, load_guide as load_guide, with_guide as with_guide
from .region_maps import region_map_of as region_map_of
from .votes import vote as vote
