"""The scores of a set of prompts on one encoded image: label maps, masks and presence maps.

Score maps are computed one at a time, so memory is O(H x W) whatever the number of prompts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgseg.guides.propagation import Propagate
from fgseg.guides.region_maps import NO_REGION, RegionMap, named_region_map
from fgseg.guides.votes import vote
from fgseg.prompts.classes import PromptSet
from fgseg.scoring.presence import TIE, automatic_threshold, exclusive_labels, presence_of
from fgseg.scoring.refine import refined
from fgseg.scoring.superpixels import region_means
from fgseg.scoring.top_two import looked_up
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.types import UNLABELLED
from fgseg.upsample.argmax import top_two

__all__ = ["ScoreField", "Sharpening", "Threshold"]

Threshold = float | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Sharpening:
    """How scores and labels follow the image.

    Attributes:
        refine: refinement of score maps, "none" for none.
        propagate: between which alike parts of the image scores flow before that, "none" for none.
        region_map: as in `fgseg.guides.region_map_of`; None for none.
        vote: whether every region takes the most frequent label of its pixels, or the mean of their presence.
    """

    refine: str = "none"
    propagate: Propagate = "none"
    region_map: RegionMap | None = None
    vote: bool = False

    def voters(self, view: EncodedImage) -> NDArray[np.int32] | None:
        """(H, W) number of each pixel's region if regions vote, negative where there is none or no data."""
        if not self.vote or self.region_map is None:
            return None
        regions = view.regions(self.region_map)
        return regions if view.no_data is None else np.where(view.no_data, np.int32(NO_REGION), regions)

    def settings(self) -> dict[str, Any]:
        """The options in plain values, for run.json."""
        regions = None if self.region_map is None else named_region_map(self.region_map)
        return {"refine": self.refine, "propagate": self.propagate, "region_map": regions, "vote": self.vote}


class ScoreField:
    """Scores of one image with one set of prompts."""

    def __init__(
        self,
        view: EncodedImage,
        texts: PromptTexts,
        prompt_set: PromptSet,
        *,
        logit_scale: float,
        sharpening: Sharpening,
        lowest_threshold: float = TIE,
    ) -> None:
        """Keep all that scores depend on.

        Args:
            view: the encoded image.
            texts: the encoded prompts and rivals.
            prompt_set: the prompts.
            logit_scale: temperature that turns cosines into presence.
            sharpening: how scores and labels follow the image.
            lowest_threshold: an automatic threshold is never below this presence.
        """
        self.view, self.texts, self.sharpening, self.regions = view, texts, sharpening, sharpening.voters(view)
        self.logit_scale, self.lowest_threshold = logit_scale, lowest_threshold
        self.names = tuple(entry.name for entry in prompt_set.classes)
        self.chosen_thresholds: dict[str, float] = {}  # of each class whose threshold was "auto"
        self.has_rivals = bool(prompt_set.rivals)

    def exclusive(self, threshold: Threshold) -> NDArray[np.int32]:
        """(H, W) int32: the best class of each pixel, UNLABELLED where its presence is below the threshold."""
        labels = self._thresholded(threshold)
        if self.view.no_data is not None:
            labels[self.view.no_data] = UNLABELLED
        return labels if self.regions is None else vote(labels, self.regions)

    def _thresholded(self, threshold: Threshold) -> NDArray[np.int32]:
        """Labels of all pixels, also of those without data."""
        if threshold == TIE and self.has_rivals and self.sharpening.refine == "none":
            return self._not_beaten()
        winner, best = self._best(self.texts.select(range(len(self.names))).text)
        labels = looked_up(np.asarray(self.texts.query_to_class, np.int32), winner)
        if threshold == "auto":
            return self._auto_thresholded(labels)
        # Without rivals a winner's presence is at least a tie, so a threshold up to that drops nothing.
        rival = self._shared_rival if self.has_rivals else self._top_two[2] if threshold > TIE else None
        if rival is None:
            return labels
        return exclusive_labels(labels, best, rival, threshold=threshold, logit_scale=self.logit_scale)

    def _not_beaten(self) -> NDArray[np.int32]:
        """`exclusive` at a tie: a pixel is labelled where no rival wins, so one label map of all texts is enough."""
        class_of_query = np.asarray(self.texts.query_to_class, np.int32)
        class_of_query[class_of_query == len(self.names)] = UNLABELLED
        return looked_up(class_of_query, self._best(self.texts.text)[0])

    def mask(self, index: int, threshold: Threshold) -> NDArray[np.bool_]:
        """(H, W) bool: where the presence of one class reaches the threshold."""
        score_map = self.presence(index)
        found: NDArray[np.bool_] = score_map >= (self._limit(index, score_map) if threshold == "auto" else threshold)
        return found if self.view.no_data is None else found & ~self.view.no_data

    def _limit(self, index: int, score_map: NDArray[np.float32]) -> float:
        no_data = self.view.no_data
        valid = score_map if no_data is None else score_map[~no_data][None]
        limit = automatic_threshold(valid, low=self.lowest_threshold)
        self.chosen_thresholds[self.names[index]] = limit
        return limit

    def winners(self, masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.int32]:
        """(H, W) int32: the most present class among the masks that hold a pixel; ties to the lowest index."""
        labels = np.full(self.view.image_hw, UNLABELLED, np.int32)
        best = np.full(self.view.image_hw, -np.inf, np.float32)
        for index, name in enumerate(masks):
            # With regions presence is compared, whose means are those of the masks; otherwise its order is the score's.
            score_map = self._class_map(index) if self.regions is None else self.presence(index)
            better = masks[name] & (score_map > best)
            labels[better], best[better] = index, score_map[better]
        return labels

    def presence(self, index: int) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1] of one class, or its means over regions; 0 where there is no data."""
        score_map = self._presence(index)
        return score_map if self.regions is None else region_means(score_map, self.regions)

    def _presence(self, index: int) -> NDArray[np.float32]:
        """`presence` of each pixel for itself."""
        rival = self._shared_rival if self.has_rivals else self._best_other(index)
        score_map = presence_of(self._class_map(index), rival, self.logit_scale)
        return score_map if self.view.no_data is None else np.where(self.view.no_data, np.float32(0), score_map)

    @cached_property
    def _shared_rival(self) -> NDArray[np.float32]:
        """(H, W) best score of the background words and negatives."""
        return self._best(self.texts.select([len(self.names)]).text)[1]

    def _best_other(self, index: int) -> NDArray[np.float32]:
        """(H, W) best score of the other classes."""
        winner, best, second = self._top_two
        return np.where(winner == index, second, best)

    @cached_property
    def _top_two(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """(H, W) each: the winning class, its score, and the score of the runner-up."""
        return top_two(self._class_map(index) for index in range(len(self.names)))

    def _auto_thresholded(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        kept = labels.copy()
        for index in range(len(self.names)):
            score_map = self._presence(index)
            kept[(labels == index) & (score_map < self._limit(index, score_map))] = UNLABELLED
        return kept

    def _best(self, text: Tensor) -> tuple[NDArray[np.intp] | NDArray[np.int32], NDArray[np.float32]]:
        """The winning row of `text` at each pixel and its score, refined if refinement is on."""
        if self.sharpening.refine == "none":
            return self.view.label_map(text, propagate=self.sharpening.propagate)
        winner, best, _ = top_two(self._maps(text))
        return winner, best

    def _class_map(self, index: int) -> NDArray[np.float32]:
        """(H, W) the maximum of the score maps of the texts of one class."""
        maps = self._maps(self.texts.select([index]).text)
        best = next(maps)
        for score_map in maps:
            np.maximum(best, score_map, out=best)
        return best

    def _maps(self, text: Tensor) -> Iterator[NDArray[np.float32]]:
        maps = self.view.maps(text, propagate=self.sharpening.propagate)
        if self.sharpening.refine == "none":
            return maps
        return refined(self.view.image, maps, method=self.sharpening.refine, patch_pixels=self.view.patch_pixels)
