from .encoded_image import EncodedImage as EncodedImage
from .heatmaps import Heatmaps as Heatmaps
from .result import FORMATS as FORMATS, Segmentation as Segmentation
