"""The model of the page with the recipes and guides that requests may ask for; all of them share its weights."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fgseg.encoders.checkpoint import find_checkpoint
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.hub import MAIN, cached_snapshot, has_tensors
from fgseg.errors import ModelNotFoundError, OptionError, WeightsError
from fgseg.guides.loading import GUIDE_MODELS, GUIDES, with_guide
from fgseg.guides.mask_model import EOMT
from fgseg.segmenter import Segmenter
from fgseg.web.limits import SegmentationRequest

__all__ = ["Models", "downloads", "needs_download"]

_EOMT_SIZE = "1.3 GB"  # of its download
_KEPT = 2  # guided models; each may hold the weights of a guide

log = logging.getLogger("fgseg")


class Models:
    """The model as it was started, and the same weights with other recipes and guides.

    Methods but `fetch` are called by one thread, that of the queue.
    """

    def __init__(self, seg: Segmenter, *, offline: bool | None = None) -> None:
        """Keep the model; `offline` as in `fgseg.load`."""
        self.started, self._offline = seg, offline
        self._guided: dict[tuple[str | None, str | None], Segmenter] = {}  # the latest last
        self._fetching = threading.Lock()

    def fetch(self, request: SegmentationRequest) -> None:
        """Download the guide of a request if it is not on this machine. Other requests need not wait for that.

        Raises:
            OptionError: it cannot be downloaded.
        """
        if request.guide is not None and request.guide in GUIDES:
            with self._fetching, needs_download(request):
                find_checkpoint(request.guide, offline=self._offline, kind=GUIDE_MODELS)

    def segmenter(self, request: SegmentationRequest) -> Segmenter:
        """The model with the recipe and guide of a request.

        Raises:
            OptionError: the model does not have the recipe, takes no guide, or the guide cannot be loaded.
        """
        key = request.guide, request.recipe
        if key == (None, None):
            return self.started
        if key not in self._guided:
            with needs_download(request):
                made = self._made(*key)
            self._guided = dict([*self._guided.items(), (key, made)][-_KEPT:])
        return self._guided[key]

    def _made(self, name: str | None, recipe: str | None) -> Segmenter:
        encoder = self.started.encoder
        if not isinstance(encoder, ClipEncoder | FgClip2Encoder):
            raise OptionError("guide: this model takes no guide and has one recipe; leave guide and recipe out")
        if name is None:
            return Segmenter(encoder.with_recipe(recipe, guide=encoder.guide))
        others = (seg.encoder.guide for seg in self._guided.values() if isinstance(seg.encoder, type(encoder)))
        loaded = next((guide for guide in others if guide is not None and guide.name == name), name)
        return Segmenter(with_guide(encoder, loaded, recipe=recipe or "value", offline=self._offline))


@contextmanager
def needs_download(request: SegmentationRequest) -> Iterator[None]:
    """Errors of a guide or mask model without the paths of this machine.

    Raises:
        OptionError: a model that the request needs is not found or cannot be used.
    """
    try:
        yield
    except (ModelNotFoundError, WeightsError) as error:
        log.warning("%s", error)
        if request.guide in GUIDES:
            raise OptionError(
                f"guide: {request.guide} is not on this machine and could not be downloaded; the log of the server "
                f"says why; choose another, or self, which needs no download"
            ) from error
        if request.region_map is not None:
            raise OptionError(
                f"region_map: {request.region_map} could not be loaded; the log of the server says why; choose "
                "superpixels, which need no download"
            ) from error
        raise


def downloads() -> dict[str, str]:
    """The size of each guide and mask model that is not on this machine, by the name that a request gives it."""
    sizes = {name: model.size for name, model in GUIDES.items() if not _is_here(model.repository, model.revision)}
    return sizes if _is_here(EOMT, MAIN) else {**sizes, "eomt": _EOMT_SIZE}


def _is_here(repository: str, revision: str) -> bool:
    folder = cached_snapshot(repository, revision)
    return folder is not None and has_tensors(folder)
