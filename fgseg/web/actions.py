"""What each event of the page does: the fields and the desk in, what changes on the page out. No Gradio here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from fgseg.errors import OptionError
from fgseg.web import views
from fgseg.web.bench import Bench
from fgseg.web.desks import Shown
from fgseg.web.examples import suited
from fgseg.web.failures import explain
from fgseg.web.limits import Asked, GoneError, Mode, prompt_lines

__all__ = ["MASKS", "Actions", "Form", "Seat", "Update"]

MASKS = -1
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
        resolution: one of `Bench.resolutions`.
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
class Seat:
    """What a session looks at.

    Attributes:
        secret: of its desk, None before the first picture.
        layer: index of the class whose heatmap is shown, MASKS for all masks.
        mark: the box (a point has no extent) where scores are shown, in shares of the picture.
    """

    secret: str | None = None
    layer: int = MASKS
    mark: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Update:
    """What changes on the page; None leaves a part as it is.

    Attributes:
        seat: what the session looks at.
        stage: the picture.
        legend: the prompts.
        note: a message.
        regions: the region table.
        downloads: the links.
        prompts: text for the field of prompts.
    """

    seat: Seat | None = None
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

    def __init__(self, bench: Bench) -> None:
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
    def run(self, seat: Seat, form: Form) -> Update:
        """Segment the picture by the fields."""
        if seat.secret is None:
            raise OptionError("image: expected a picture, got none; drop one, paste one, or choose an example")
        before = self.bench.desks.get(seat.secret).shown
        shown = self.bench.segment(seat.secret, form.asked())
        is_same = before is not None and before.asked.prompts == shown.asked.prompts
        return self._result(seat if is_same else replace(seat, layer=MASKS), shown, form.opacity)

    @_told
    def refresh(self, seat: Seat, form: Form) -> Update:
        """An option changed: segment again, once there is a result."""
        return self.run(seat, form) if self._has_result(seat) else Update()

    @_told
    def redraw(self, seat: Seat, opacity: float) -> Update:
        """The opacity changed: draw again, once there is a result."""
        return Update(stage=self._stage(seat, opacity)) if self._has_result(seat) else Update()

    @_told
    def choose(self, seat: Seat, data: Mapping[str, Any], opacity: float) -> Update:
        """Show the masks, or one prompt's heatmap: `data` holds the "layer"."""
        layer = data.get("layer")
        if not isinstance(layer, int):
            raise OptionError(f"layer: expected a number, got {layer!r:.60}")
        chosen = replace(seat, layer=layer)
        return Update(seat=chosen, stage=self._stage(chosen, opacity), legend=self._legend(chosen))

    @_told
    def mark(self, seat: Seat, data: Mapping[str, Any]) -> Update:
        """A point was clicked or a box drawn, or the mark taken away: `data` holds the "box" in shares, or null."""
        box = data.get("box")
        if not (box is None or isinstance(box, list)):
            raise OptionError(f"box: expected four numbers, got {box!r:.60}")
        marked = replace(seat, mark=None if box is None else tuple(box))
        if not self._has_result(seat):
            wanted = "Write prompts and press Segment first; then every prompt's score shows here."
            return Update(note=views.error_note(wanted)) if box else Update()
        return Update(seat=marked, legend=self._legend(marked))

    def leave(self, owner: str) -> None:
        """A page was closed: its picture is dropped."""
        self.bench.desks.leave(owner)

    def _begun(self, secret: str, form: Form) -> Update:
        """A new picture, segmented at once where there are prompts."""
        desk, seat = self.bench.desks.get(secret), Seat(secret)
        bare = Update(
            seat=seat,
            stage=views.stage(secret, desk, self.bench.picture(secret), f"The picture {desk.name}"),
            legend=dict(views.NO_LEGEND),
            note="",
            regions="",
            downloads="",
        )
        if not form.prompts.strip():
            return bare
        made = self.run(seat, form)
        # Where there is no result the note says why, and the picture is there all the same.
        return made if made.stage else replace(bare, note=made.note)

    def _result(self, seat: Seat, shown: Shown, opacity: float) -> Update:
        return Update(
            seat=seat,
            stage=self._stage(seat, opacity),
            legend=self._legend(seat),
            note=views.timing_note(shown),
            regions=views.region_rows(shown),
            downloads=views.downloads(seat.secret or ""),
        )

    def _stage(self, seat: Seat, opacity: float) -> dict[str, Any]:
        desk = self.bench.desks.get(seat.secret)
        picture = self.bench.draw(seat.secret, opacity, None if seat.layer == MASKS else seat.layer)
        names = self._shown(seat).screen.classes
        what = f"the masks of {', '.join(names)}" if seat.layer == MASKS else f"the heatmap of {names[seat.layer]}"
        return views.stage(seat.secret or "", desk, picture, f"The picture {desk.name} under {what}")

    def _legend(self, seat: Seat) -> dict[str, Any]:
        if seat.mark is None:
            return views.legend(self._shown(seat), seat.layer)
        scores = self.bench.score(seat.secret, seat.mark)
        where = views.place(seat.mark, self.bench.desks.get(seat.secret))
        return views.legend(self._shown(seat), seat.layer, scores, where)

    def _has_result(self, seat: Seat) -> bool:
        return seat.secret is not None and self.bench.desks.get(seat.secret).shown is not None

    def _shown(self, seat: Seat) -> Shown:
        shown = self.bench.desks.get(seat.secret).shown
        if shown is None:
            raise GoneError("result: there is none yet; segment the picture first")
        return shown

    def _proposals(self) -> dict[str, str]:
        """Prompts for each example that the model knows."""
        seg = self.bench.segmenter
        return {name: "\n".join(suited(seg, example)) for name, example in self.bench.examples.items()}
