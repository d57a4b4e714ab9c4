"""The published word lists."""

import hashlib

from fgseg.prompts.word_lists import BACKGROUND_WORDS, COCO_OBJECT_BACKGROUND_WORDS, IMAGENET_TEMPLATES


def test_the_imagenet_templates_are_the_80_of_openai_clip():
    assert len(IMAGENET_TEMPLATES) == len(set(IMAGENET_TEMPLATES)) == 80
    assert {template.count("{}") for template in IMAGENET_TEMPLATES} == {1}
    assert IMAGENET_TEMPLATES[0] == "a bad photo of a {}."
    assert IMAGENET_TEMPLATES[79] == "a tattoo of the {}."
    # The seven that the notebook says a forward selection picked out of the 80.
    assert {
        *("itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}."),
        *("a {} in a video game.", "art of the {}.", "a photo of the small {}."),
    } <= set(IMAGENET_TEMPLATES)
    # Computed from the notebook's list and from open_clip's, not from ours.
    digest = hashlib.sha256("\n".join(IMAGENET_TEMPLATES).encode()).hexdigest()
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"


def test_the_background_words_are_those_of_the_protocol():
    protocol = (
        "sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, bed, building, cloud, lamp, "
        "door, window, wardrobe, ceiling, shelf, curtain, stair, floor, hill, rail, fence"
    )
    assert ", ".join(BACKGROUND_WORDS) == protocol
    assert len(BACKGROUND_WORDS) == 26
    assert COCO_OBJECT_BACKGROUND_WORDS[:10] == BACKGROUND_WORDS[:10]
    assert COCO_OBJECT_BACKGROUND_WORDS[10:] == ("building", "cloud", "floor", "hill", "rail", "desk", "bed")
    assert set(COCO_OBJECT_BACKGROUND_WORDS) < set(BACKGROUND_WORDS)
