from .find import IMAGE_SUFFIXES as IMAGE_SUFFIXES, find_images as find_images
from .label_png import read_label_png as read_label_png, write_label_png as write_label_png
from .reading import (
    MAX_PIXELS as MAX_PIXELS,
    Picture as Picture,
    read_image as read_image,
    read_picture as read_picture,
)
from .resizing import (
    resize_bicubic as resize_bicubic,
    resize_bilinear as resize_bilinear,
    resize_image as resize_image,
    shrink as shrink,
)
from .writing import (
    encode_cutout as encode_cutout,
    encode_jpeg as encode_jpeg,
    encode_png as encode_png,
    write_image as write_image,
    write_mask_png as write_mask_png,
)
