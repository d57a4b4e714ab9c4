"""
Which phrase fits which box
===========================

Boxes are compared with phrases. The probabilities of a row add up to 1.
"""

import numpy as np

import fgseg
from fgseg.drawing import show_box_scores
from fgseg.regions import region_table
from fgseg.scenes import scene

alt = "A drawn scene with numbered boxes, and a matrix of boxes and phrases. Each box fits its own phrase best."
drawn = scene(10, (256, 256), kind="shapes")
front = [index for index, thing in enumerate(drawn.things) if thing.shape != "background"][:3]
phrases = [drawn.things[index].phrase.text for index in front]
masks = {text: drawn.labels == index for text, index in zip(phrases, front, strict=True)}
regions = region_table(masks, {text: mask.astype(np.float32) for text, mask in masks.items()}, min_area=200)
boxes = np.array([region.box_xyxy for region in regions])
scores = fgseg.load().score_boxes(drawn.image, boxes, phrases)
show_box_scores(drawn.image, boxes, phrases, scores.probabilities)
