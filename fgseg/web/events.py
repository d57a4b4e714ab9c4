"""The events of the page: each takes the fields and the session, and returns what changes. No Gradio here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from fgseg._checks import check_choice
from fgseg.drawing.overlay import Base
from fgseg.errors import OptionError
from fgseg.images.resizing import shrink
from fgseg.web import html
from fgseg.web.examples import known_prompts
from fgseg.web.limits import Mode, SegmentationRequest, Specks, explain, prompt_lines
from fgseg.web.service import SegmentationService
from fgseg.web.sessions import MASKS, PREVIEW_SIDE, ViewState

__all__ = ["Actions", "Form", "Update", "explained"]


@dataclass(frozen=True)
class Form:
    """The fields of the page.

    Attributes:
        prompts: one class per line; commas separate synonyms.
        negatives: one word per line.
        mode: "exclusive" or "independent".
        threshold: minimum presence, 0 to 1.
        opacity: of masks and heatmaps, 0 to 1.
        resolution: one of `SegmentationService.resolutions`.
        base: what lies under masks and heatmaps: "grey" or "photo".
        specks: "join" or "keep".
    """

    prompts: str
    negatives: str
    mode: str
    threshold: float
    opacity: float
    resolution: str
    base: str
    specks: str

    def request(self) -> SegmentationRequest:
        """The request of the fields; errors as `SegmentationRequest`."""
        prompts, negatives = prompt_lines(self.prompts), prompt_lines(self.negatives)
        mode, specks = cast(Mode, self.mode), cast(Specks, self.specks)
        return SegmentationRequest(prompts, negatives, mode, self.threshold, self.resolution, specks)


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
    """

    secret: str | None = None
    stage: dict[str, Any] | None = None
    legend: dict[str, Any] | None = None
    note: str | None = None
    regions: str | None = None
    downloads: str | None = None
    prompts: str | None = None


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
        """An example was chosen: `data` holds its "name". It sets its prompts unless the user has written others."""
        name = str(data.get("name"))
        secret = self.service.open_example(name)
        examples, seg = self.service.examples, self.service.segmenter
        proposals = {key: "\n".join(known_prompts(seg, example)) for key, example in examples.items()}
        if not form.prompts.strip() or form.prompts.strip() in proposals.values():
            form = replace(form, prompts=proposals[name])
        return replace(self._start(secret, form, owner), prompts=form.prompts)

    def run(self, secret: str | None, form: Form) -> Update:
        """Segment the image."""
        if secret is None:
            raise OptionError("image: expected an image, got none; drop one, paste one, or choose an example")
        result = self.service.segment(secret, form.request())
        view = self.sessions.view(secret)
        return Update(
            secret=secret,
            stage=self._stage(secret, form, view.layer),
            legend=self._legend(secret, view),
            note=html.timing_note(result),
            regions=html.region_rows(result),
            downloads=html.downloads(secret),
        )

    def refresh(self, secret: str | None, form: Form) -> Update:
        """An option has changed: segment again if there is a result."""
        return self.run(secret, form) if self._has_result(secret) else Update()

    def redraw(self, secret: str | None, form: Form) -> Update:
        """The opacity or the base has changed: draw again if there is a result."""
        if not self._has_result(secret):
            return Update()
        return Update(stage=self._stage(secret, form, self.sessions.view(secret).layer))

    def choose(self, secret: str | None, data: Mapping[str, Any], form: Form) -> Update:
        """Show all masks or the heatmap of one prompt: `data` holds the "layer"."""
        layer = data.get("layer")
        if not isinstance(layer, int):
            raise OptionError(f"layer: expected a number, got {layer!r:.60}")
        stage = self._stage(secret, form, layer)  # refuses an unknown layer
        return Update(stage=stage, legend=self._legend(secret, self.sessions.view(secret, layer=layer)))

    def mark(self, secret: str | None, data: Mapping[str, Any]) -> Update:
        """A point or box was marked, or the mark was cleared: `data` holds the "box" in fractions, or None."""
        box = data.get("box")
        if not (box is None or isinstance(box, list)):
            raise OptionError(f"box: expected four numbers, got {box!r:.60}")
        if not self._has_result(secret):
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
            legend={"rows": []},
            note="",
            regions="",
            downloads="",
        )
        if not form.prompts.strip():
            return bare
        update = explained(self.run, secret, form)
        return update if update.stage else replace(bare, note=update.note)  # without a stage, the note holds the error

    def _stage(self, secret: str | None, form: Form, layer: int) -> dict[str, Any]:
        check_choice("base", form.base, get_args(Base))
        view = self.sessions.view(secret, base=form.base)
        picture = self.service.draw(secret, form.opacity, layer, view.base)
        names = self.service.result(secret).preview.classes
        content = f"the masks of {', '.join(names)}" if layer == MASKS else f"the heatmap of {names[layer]}"
        return html.stage(secret or "", self.sessions.get(secret), picture, f" under {content}")

    def _legend(self, secret: str | None, view: ViewState) -> dict[str, Any]:
        result = self.service.result(secret)
        if view.mark is None:
            return html.legend(result, view.layer)
        scores = self.service.score(secret, view.mark)
        return html.score_legend(result, view.layer, view.mark, scores, self.sessions.get(secret))

    def _has_result(self, secret: str | None) -> bool:
        return secret is not None and self.sessions.get(secret).result is not None
