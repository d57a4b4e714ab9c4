"""The events of the page: each takes the fields and the session, and returns what changes. No Gradio here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from fgseg._checks import check_number
from fgseg.errors import OptionError, PromptError
from fgseg.guides.propagation import Propagate
from fgseg.images.resizing import shrink
from fgseg.web import html
from fgseg.web.examples import FULL_MODEL_COMMAND, known_prompts, unknown_words
from fgseg.web.limits import Mode, SegmentationRequest, explain, prompt_lines
from fgseg.web.service import SegmentationService
from fgseg.web.sessions import MASKS, PREVIEW_SIDE, Result, ViewState

__all__ = ["Actions", "Form", "Update", "explained"]


@dataclass(frozen=True)
class Form:
    """The fields of the page.

    Attributes:
        prompts: one class per line; commas separate synonyms.
        negatives: one word per line.
        mode: "exclusive" or "independent".
        threshold: minimum presence, 0 to 1.
        min_percent: smallest region, in per cent of the image.
        resolution: one of `SegmentationService.resolutions`.
        propagate: as `SegmentationRequest`.
        guide: one of `GUIDE_NAMES`, or "none" for the model as it was started.
        recipe: "proxy", "corr" or "value"; it is left alone without a guide.
        region_map: one of `REGION_MAPS`, or "none".
        vote: whether the regions vote; it is left alone without regions.
    """

    prompts: str
    negatives: str
    mode: str
    threshold: float
    min_percent: float
    resolution: str
    propagate: str = "none"
    guide: str = "none"
    recipe: str = "proxy"
    region_map: str = "none"
    vote: bool = True

    def request(self, pixels: int) -> SegmentationRequest:
        """The request of the fields for an image of so many pixels; errors as `SegmentationRequest`."""
        check_number("smallest region", self.min_percent, low=0, high=100, hint="a percentage of the image")
        return SegmentationRequest(
            prompt_lines(self.prompts),
            prompt_lines(self.negatives),
            cast(Mode, self.mode),
            self.threshold,
            self.resolution,
            max(1, round(self.min_percent / 100 * pixels)) if self.min_percent else "auto",
            cast(Propagate, self.propagate),
            guide=None if self.guide == "none" else self.guide,
            recipe=None if self.guide == "none" else self.recipe,
            region_map=None if self.region_map == "none" else self.region_map,
            vote=self.vote and self.region_map != "none",
        )


@dataclass(frozen=True)
class Update:
    """What changes on the page; None leaves an element unchanged.

    Attributes:
        secret: of the session that the page shows.
        stage: the image.
        legend: the prompts.
        note: a message.
        regions: the region table.
        downloads: the links.
        prompts: text of the field of prompts.
        masks: the label map and the presence, which the browser draws and reads out under the pointer.
        heatmap: the heatmap above the image, if one is shown, and a description of what is shown.
    """

    secret: str | None = None
    stage: dict[str, Any] | None = None
    legend: dict[str, Any] | None = None
    note: str | None = None
    regions: str | None = None
    downloads: str | None = None
    prompts: str | None = None
    masks: dict[str, Any] | None = None
    heatmap: dict[str, Any] | None = None


def explained(action: Callable[..., Update], *arguments: Any) -> Update:
    """What an action returns; the message of its error if it fails."""
    try:
        return action(*arguments)
    except Exception as error:  # whatever it is, the page shows a message
        return Update(note=html.error_note(explain(error)))


class Actions:
    """The events of the page. `explained` turns their errors into messages."""

    def __init__(self, service: SegmentationService) -> None:
        """Keep the service that does the work."""
        self.service, self.sessions = service, service.sessions

    def uploaded(self, data: Mapping[str, Any], form: Form, owner: str) -> Update:
        """An image was uploaded or refused: `data` holds its "secret" or an "error"."""
        if "error" in data:
            return Update(note=html.error_note(str(data["error"])[:500]))
        return self._start(str(data.get("secret")), form, owner)

    def example(self, data: Mapping[str, Any], form: Form, owner: str) -> Update:
        """An example was chosen: `data` holds its "name". It brings its own prompts."""
        name = str(data.get("name"))
        secret = self.service.open_example(name)
        prompts = "\n".join(known_prompts(self.service.segmenter, self.service.examples[name]))
        return replace(self._start(secret, replace(form, prompts=prompts, negatives=""), owner), prompts=prompts)

    def run(self, secret: str | None, form: Form) -> Update:
        """Segment the image."""
        if secret is None:
            raise OptionError("image: expected an image, got none; drop one, paste one, or choose an example")
        height, width = self.sessions.get(secret).pixels.shape[:2]
        result = self._segment(secret, form.request(height * width))
        view = self.sessions.view(secret)
        return Update(
            secret=secret,
            masks=html.masks(result, self.sessions.get(secret)),
            heatmap=self._heatmap(secret, view.layer),
            legend=self._legend(secret, view),
            note=html.timing_note(result),
            regions=html.region_rows(result),
            downloads=html.downloads(secret),
        )

    def refresh(self, secret: str | None, form: Form) -> Update:
        """An option has changed: segment again if there is a result."""
        has_result = secret is not None and self.sessions.get(secret).result is not None
        return self.run(secret, form) if has_result else Update()

    def choose(self, secret: str | None, data: Mapping[str, Any]) -> Update:
        """Show the masks or the heatmap of one prompt: `data` holds the "layer"."""
        layer = data.get("layer")
        if not isinstance(layer, int):
            raise OptionError(f"layer: expected a number, got {layer!r:.60}")
        heatmap = self._heatmap(secret, layer)  # refuses an unknown layer
        return Update(heatmap=heatmap, legend=self._legend(secret, self.sessions.view(secret, layer=layer)))

    def mark(self, secret: str | None, data: Mapping[str, Any]) -> Update:
        """A point or box was marked, or the mark was cleared: `data` holds the "box" in fractions, or None."""
        box = data.get("box")
        if not (box is None or isinstance(box, list)):
            raise OptionError(f"box: expected four numbers, got {box!r:.60}")
        if secret is None or self.sessions.get(secret).result is None:
            hint = "Write prompts and press Segment first. Then a click shows the score of every prompt."
            return Update(note=html.error_note(hint)) if box else Update()
        mark = None if box is None else tuple(box)
        legend = self._legend(secret, replace(self.sessions.view(secret), mark=mark))  # refuses a wrong box
        self.sessions.view(secret, mark=mark)
        return Update(legend=legend)

    def leave(self, owner: str) -> None:
        """A page was closed: its image is dropped."""
        self.sessions.drop(owner)

    def _start(self, secret: str, form: Form, owner: str) -> Update:
        """Show a new image, and segment it if there are prompts."""
        self.sessions.claim(secret, owner)
        session = self.sessions.get(secret)
        bare = Update(
            secret=secret,
            stage=html.stage(secret, session, shrink(session.pixels, max_side=PREVIEW_SIDE)),
            masks={},
            heatmap=html.heatmap(session, None, ""),
            legend={"rows": []},
            note="",
            regions="",
            downloads="",
        )
        if not form.prompts.strip():
            return bare
        update = explained(self.run, secret, form)
        if update.masks is None:  # the note holds the error
            return replace(bare, note=update.note)
        return replace(update, stage=bare.stage)

    def _segment(self, secret: str, request: SegmentationRequest) -> Result:
        """Segment. The error about an unknown word says how to start the page with a model that knows every word."""
        try:
            return self.service.segment(secret, request)
        except PromptError as error:
            if not unknown_words(self.service.segmenter, [*request.prompts, *request.negatives]):
                raise
            raise PromptError(f"{error}. To start this page with one, run {FULL_MODEL_COMMAND}") from error

    def _heatmap(self, secret: str | None, layer: int) -> dict[str, Any]:
        session, names = self.sessions.get(secret), self.service.result(secret).preview.classes
        if layer == MASKS:
            return html.heatmap(session, None, f" under the masks of {', '.join(names)}")
        picture = self.service.heatmap(secret, layer)
        return html.heatmap(session, picture, f" under the heatmap of {names[layer]}")

    def _legend(self, secret: str | None, view: ViewState) -> dict[str, Any]:
        result = self.service.result(secret)
        if view.mark is None:
            return html.legend(result, secret, view.layer)
        scores = self.service.score(secret, view.mark)
        return html.score_legend(result, secret, view.layer, view.mark, scores, self.sessions.get(secret))
