"""What each event of the page does: the fields and the desk in, what changes on the page out. No Gradio here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from fgseg.errors import OptionError
from fgseg.web import html as views
from fgseg.web.examples import suited
from fgseg.web.limits import Asked, Mode, explain, prompt_lines
from fgseg.web.service import SegmentationService
from fgseg.web.sessions import MASKS, ViewState

__all__ = ["Actions", "Form", "Update"]

P = ParamSpec("P")


@dataclass(frozen=True)
class Form:
    """The fields of the page.

    Attributes:
        prompts: a class a line, synonyms between commas.
        negatives: a word for "not this" a line.
        mode: "exclusive" or "independent".
        threshold: least presence, 0 to 1.
        opacity: of masks and heatmaps, 0 to 1.
        resolution: one of `SegmentationService.resolutions`.
    """

    prompts: str
    negatives: str
    mode: str
    threshold: float
    opacity: float
    resolution: str

    def asked(self) -> Asked:
        """What the fields ask for.

        Raises:
            OptionError: one that cannot be.
        """
        return Asked(
            prompt_lines(self.prompts),
            prompt_lines(self.negatives),
            cast(Mode, self.mode),
            self.threshold,
            self.resolution,
        )


@dataclass(frozen=True)
class Update:
    """What changes on the page; None leaves a part as it is.

    Attributes:
        secret: of the desk that the session looks at.
        stage: the picture.
        legend: the prompts.
        note: a message.
        regions: the region table.
        downloads: the links.
        prompts: text for the field of prompts.
    """

    secret: str | None = None
    stage: dict[str, Any] | None = None
    legend: dict[str, Any] | None = None
    note: str | None = None
    regions: str | None = None
    downloads: str | None = None
    prompts: str | None = None


def _told(action: Callable[Concatenate["Actions", P], Update]) -> Callable[Concatenate["Actions", P], Update]:
    """An action that says on the page what went wrong, and changes nothing else."""

    @wraps(action)
    def told(self: "Actions", /, *args: P.args, **kwargs: P.kwargs) -> Update:
        try:
            return action(self, *args, **kwargs)
        except Exception as error:  # the last door before the user
            return Update(note=views.error_note(explain(error)))

    return told


class Actions:
    """The events of the page, on a bench."""

    def __init__(self, bench: SegmentationService) -> None:
        """Take the bench that does the work."""
        self.bench = bench

    @_told
    def uploaded(self, data: Mapping[str, Any], form: Form, owner: str) -> Update:
        """A picture was uploaded to a desk, or was refused: `data` holds its "secret" or an "error"."""
        if "error" in data:
            return Update(note=views.error_note(str(data["error"])[:500]))
        secret = str(data.get("secret"))
        self.bench.desks.claim(secret, owner)
        return self._begun(secret, form)

    @_told
    def example(self, data: Mapping[str, Any], form: Form, owner: str) -> Update:
        """An example was chosen; it brings its prompts, unless the user has written others."""
        name = str(data.get("name"))
        secret = self.bench.open_example(name)
        self.bench.desks.claim(secret, owner)
        proposed = self._proposals()
        is_own = form.prompts.strip() and form.prompts.strip() not in proposed.values()
        prompts = form.prompts if is_own else proposed[name]
        return replace(self._begun(secret, replace(form, prompts=prompts)), prompts=prompts)

    @_told
    def run(self, secret: str | None, form: Form) -> Update:
        """Segment the picture by the fields."""
        if secret is None:
            raise OptionError("image: expected a picture, got none; drop one, paste one, or choose an example")
        shown = self.bench.segment(secret, form.asked())
        look = self.bench.desks.look(secret)
        return Update(
            secret=secret,
            stage=self._stage(secret, form.opacity, look.layer),
            legend=self._legend(secret, look),
            note=views.timing_note(shown),
            regions=views.region_rows(shown),
            downloads=views.downloads(secret),
        )

    @_told
    def refresh(self, secret: str | None, form: Form) -> Update:
        """An option changed: segment again, once there is a result."""
        return self.run(secret, form) if self._has_result(secret) else Update()

    @_told
    def redraw(self, secret: str | None, opacity: float) -> Update:
        """The opacity changed: draw again, once there is a result."""
        if not self._has_result(secret):
            return Update()
        return Update(stage=self._stage(secret, opacity, self.bench.desks.look(secret).layer))

    @_told
    def choose(self, secret: str | None, data: Mapping[str, Any], opacity: float) -> Update:
        """Show the masks, or one prompt's heatmap: `data` holds the "layer"."""
        layer = data.get("layer")
        if not isinstance(layer, int):
            raise OptionError(f"layer: expected a number, got {layer!r:.60}")
        stage = self._stage(secret, opacity, layer)  # refuses what is no layer
        look = self.bench.desks.look_at(secret, layer=layer)
        return Update(stage=stage, legend=self._legend(secret, look))

    @_told
    def mark(self, secret: str | None, data: Mapping[str, Any]) -> Update:
        """A point was clicked or a box drawn, or the mark taken away: `data` holds the "box" in shares, or null."""
        box = data.get("box")
        if not (box is None or isinstance(box, list)):
            raise OptionError(f"box: expected four numbers, got {box!r:.60}")
        if not self._has_result(secret):
            wanted = "Write prompts and press Segment first; then every prompt's score shows here."
            return Update(note=views.error_note(wanted)) if box else Update()
        mark = None if box is None else tuple(box)
        legend = self._legend(secret, replace(self.bench.desks.look(secret), mark=mark))  # refuses what is no box
        self.bench.desks.look_at(secret, mark=mark)
        return Update(legend=legend)

    def leave(self, owner: str) -> None:
        """A page was closed: its picture is dropped."""
        self.bench.desks.leave(owner)

    def _begun(self, secret: str, form: Form) -> Update:
        """A new picture, segmented at once where there are prompts."""
        desk = self.bench.desks.get(secret)
        bare = Update(
            secret=secret,
            stage=views.stage(secret, desk, self.bench.picture(secret), f"The picture {desk.name}"),
            legend=dict(views.NO_LEGEND),
            note="",
            regions="",
            downloads="",
        )
        if not form.prompts.strip():
            return bare
        made = self.run(secret, form)
        # Where there is no result the note says why, and the picture is there all the same.
        return made if made.stage else replace(bare, note=made.note)

    def _stage(self, secret: str | None, opacity: float, layer: int) -> dict[str, Any]:
        desk = self.bench.desks.get(secret)
        picture = self.bench.draw(secret, opacity, None if layer == MASKS else layer)
        names = self.bench.shown(secret).screen.classes
        what = f"the masks of {', '.join(names)}" if layer == MASKS else f"the heatmap of {names[layer]}"
        return views.stage(secret or "", desk, picture, f"The picture {desk.name} under {what}")

    def _legend(self, secret: str | None, look: ViewState) -> dict[str, Any]:
        if look.mark is None:
            return views.legend(self.bench.shown(secret), look.layer)
        scores = self.bench.score(secret, look.mark)
        where = views.place(look.mark, self.bench.desks.get(secret))
        return views.legend(self.bench.shown(secret), look.layer, scores, where)

    def _has_result(self, secret: str | None) -> bool:
        return secret is not None and self.bench.desks.get(secret).shown is not None

    def _proposals(self) -> dict[str, str]:
        """Prompts for each example that the model knows."""
        seg = self.bench.segmenter
        return {name: "\n".join(suited(seg, example)) for name, example in self.bench.examples.items()}
