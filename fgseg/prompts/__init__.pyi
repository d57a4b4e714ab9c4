from .classes import (
    PromptClass as PromptClass,
    PromptSet as PromptSet,
    make_prompt_set as make_prompt_set,
    parse_classes as parse_classes,
    parse_words as parse_words,
)
from .files import read_class_file as read_class_file, read_template_file as read_template_file
from .templates import TextPlan as TextPlan, expand as expand, templates_named as templates_named
from .word_lists import (
    BACKGROUND_WORDS as BACKGROUND_WORDS,
    COCO_OBJECT_BACKGROUND_WORDS as COCO_OBJECT_BACKGROUND_WORDS,
    IMAGENET_TEMPLATES as IMAGENET_TEMPLATES,
)
