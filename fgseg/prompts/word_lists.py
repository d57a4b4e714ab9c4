"""Published word lists: templates around a word, and words that stand for the background.

They are reproduced exactly, because published numbers depend on them. `tests/prompts/test_word_lists.py` checks them.
"""

from pathlib import Path

__all__ = ["BACKGROUND_WORDS", "COCO_OBJECT_BACKGROUND_WORDS", "IMAGENET_TEMPLATES"]

_TEMPLATE_FILE = Path(__file__).parents[1] / "assets" / "imagenet_templates.txt"

IMAGENET_TEMPLATES: tuple[str, ...] = tuple(_TEMPLATE_FILE.read_text(encoding="utf-8").splitlines())
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
