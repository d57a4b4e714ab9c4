"""Published word lists: templates around a word, and words that stand for the background.

They are reproduced exactly, because published numbers depend on them. `tests/prompts/test_word_lists.py` checks them.
"""

__all__ = ["BACKGROUND_WORDS", "COCO_OBJECT_BACKGROUND_WORDS", "IMAGENET_TEMPLATES"]

IMAGENET_TEMPLATES: tuple[str, ...] = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
"""The 80 templates of OpenAI CLIP for ImageNet, in their original order, each with one "{}" for the word.

Source: github.com/openai/CLIP (MIT), notebooks/Prompt_Engineering_for_ImageNet.ipynb, `imagenet_templates`;
open_clip's `OPENAI_IMAGENET_TEMPLATES` is the same list. "itap" is short for "I took a picture".
"""

# fmt: off
BACKGROUND_WORDS: tuple[str, ...] = (
    "sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain",
    "sands", "desk", "bed", "building", "cloud", "lamp", "door", "window", "wardrobe",
    "ceiling", "shelf", "curtain", "stair", "floor", "hill", "rail", "fence",
)
# fmt: on
"""The 26 words that stand for "anything else" in voc21 and coco-object.

Source: github.com/wangf3014/SCLIP, first line of configs/cls_voc21.txt; NACLIP and ProxyCLIP use them too.
"""

COCO_OBJECT_BACKGROUND_WORDS: tuple[str, ...] = (
    *BACKGROUND_WORDS[:10],
    *("building", "cloud", "floor", "hill", "rail", "desk", "bed"),
)
"""The 17 of them that ProxyCLIP uses for coco-object. Note that "bed" is also a class of coco-object.

Source: github.com/mc-lan/ProxyCLIP, first line of configs/cls_coco_object.txt.
"""
