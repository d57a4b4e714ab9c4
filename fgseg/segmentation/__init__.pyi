from .encoded_image import EncodedImage as EncodedImage
from .heatmaps import Heatmaps as Heatmaps
from .result import Segmentation as Segmentation
from .saving import FORMATS as FORMATS
