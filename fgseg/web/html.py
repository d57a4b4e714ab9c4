"""What the page shows of a picture and its result: values for its scripts, and small pieces of HTML."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.drawing.colors import colorize
from fgseg.images.writing import encode_jpeg
from fgseg.web.service import FILES, BoxScore
from fgseg.web.sessions import Result, Session

__all__ = ["NO_LEGEND", "data_uri", "downloads", "error_note", "legend", "place", "region_rows", "stage", "timing_note"]

REGIONS_SHOWN = 100
_RAMP = colorize(np.linspace(0, 1, 9)[None])[0].tolist()  # the colours of heatmaps, from 0 to 1
NO_LEGEND: Mapping[str, Any] = {"rows": [], "layer": -1, "where": ""}


def data_uri(image: NDArray[np.uint8]) -> str:
    """The picture in its address: nothing is left on the server for another to find."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode("ascii")


def stage(key: str, desk: Session, picture: NDArray[np.uint8], alt: str) -> dict[str, Any]:
    """The picture as the stage draws it; `width` and `height` are those of the file, `key` tells pictures apart."""
    height, width = desk.pixels.shape[:2]
    return {"src": data_uri(picture), "alt": alt, "width": width, "height": height, "name": desk.name, "key": key}


@dataclass(frozen=True)
class Place:
    """Where in the picture scores are of.

    Attributes:
        words: what to call it, in pixels of the picture.
        is_point: it is one pixel, whose mean is its peak.
    """

    words: str
    is_point: bool


def legend(shown: Result, layer: int, scores: Sequence[BoxScore] = (), where: Place | None = None) -> dict[str, Any]:
    """A row a prompt: its colour, its share of the picture, and its scores at a place where there is one."""
    found = {score.name: score for score in scores}
    entries: Any = shown.summary["classes"]
    rows = [
        {
            "name": entry["name"],
            "color": _css(color),
            "share": _percent(entry["share"]),
            "mean": round(found[entry["name"]].mean, 3) if found else None,
            "peak": round(found[entry["name"]].peak, 3) if found else None,
        }
        for entry, color in zip(entries, shown.screen.colors, strict=True)
    ]
    at = {"where": where.words, "isPoint": where.is_point} if where else {"where": "", "isPoint": False}
    return {"rows": rows, "layer": layer, "ramp": [_css(color) for color in _RAMP], **at}


def place(box: Sequence[float], desk: Session) -> Place:
    """A box of shares as a place in the picture."""
    height, width = desk.pixels.shape[:2]
    left, right = (min(int(side * width), width - 1) for side in (box[0], box[2]))
    top, bottom = (min(int(side * height), height - 1) for side in (box[1], box[3]))
    if (left, top) == (right, bottom):
        return Place(f"at {left}, {top}", is_point=True)
    return Place(f"from {left}, {top} to {right}, {bottom}", is_point=False)


def timing_note(shown: Result) -> str:
    """How long it took, and whether the picture's features were there already."""
    encode = "kept from before, 0 ms" if shown.reused else f"{shown.milliseconds['encode']:.0f} ms"
    count = sum(entry["pixels"] > 0 for entry in _list(shown, "classes"))
    found = f"{count} of {len(shown.screen.classes)} prompts found"
    return (
        f'<p class="fg-note" role="status">{found}. <span>Encoding the picture: <b>{encode}</b></span> · '
        f"<span>scoring the prompts: <b>{shown.milliseconds['score']:.0f} ms</b></span></p>"
    )


def error_note(message: str) -> str:
    """A message that stays until the next request."""
    return f'<p class="fg-note fg-error" role="alert">{escape(message)}</p>'


def region_rows(shown: Result) -> str:
    """The region table, the largest parts first within each class."""
    regions = _list(shown, "regions")
    if not regions:
        return (
            '<p class="fg-empty">No regions: no prompt is present enough. Lower the threshold, or try other words.</p>'
        )
    colors = [_css(color) for color in shown.screen.colors]
    body = "".join(_region_row(region, colors[region["class_index"]]) for region in regions[:REGIONS_SHOWN])
    more = len(regions) - REGIONS_SHOWN
    rest = f'<p class="fg-empty">{more} more are in regions.csv.</p>' if more > 0 else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Prompt", "Area", "Box", "Mean", "Peak"))
    return (
        f'<div class="fg-table" tabindex="0" role="region" aria-label="Regions"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{rest}"
    )


def downloads(secret: str) -> str:
    """Links to the result's files, which are made when they are asked for."""
    links = "".join(
        f'<a class="fg-link" href="desk/{escape(secret)}/{name}" download="{name}">{title}</a>'
        for name, (_, _, title) in FILES.items()
    )
    return f'<nav class="fg-downloads" aria-label="Downloads">{links}</nav>'


def _region_row(region: Mapping[str, Any], color: str) -> str:
    left, top, right, bottom = region["box_xyxy"]
    return (
        f'<tr><td><i style="background:{color}"></i>{escape(region["class_name"])}</td><td>{region["area"]:,} px</td>'
        f"<td>{left}, {top} to {right}, {bottom}</td><td>{region['mean_score']:.2f}</td>"
        f"<td>{region['peak_score']:.2f}</td></tr>"
    )


def _list(shown: Result, key: str) -> list[dict[str, Any]]:
    entries: Any = shown.summary[key]
    return list(entries)


def _css(color: Sequence[int]) -> str:
    """The color as CSS has it.

    >>> _css((255, 0, 16))
    '#ff0010'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)


def _percent(share: float) -> str:
    """Share of the picture in few letters.

    >>> _percent(0), _percent(0.0004), _percent(0.2345)
    ('0 %', '<0.1 %', '23.4 %')
    """
    if not share:
        return "0 %"
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
