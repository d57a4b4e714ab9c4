"""What the page shows of an image and its result: values for the scripts of the page, and small pieces of HTML."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.drawing.colors import colorize
from fgseg.images.writing import encode_jpeg
from fgseg.segmentation.result import speck_line
from fgseg.web.service import FILES
from fgseg.web.sessions import Result, Session

__all__ = [
    "data_uri",
    "downloads",
    "error_note",
    "legend",
    "region_rows",
    "score_legend",
    "stage",
    "timing_note",
]

REGIONS_SHOWN = 100
_RAMP = colorize(np.linspace(0, 1, 9)[None])[0].tolist()  # the colours of heatmaps, from 0 to 1


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a data URI, so that no file on the server is needed."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode("ascii")


def stage(secret: str, session: Session, picture: NDArray[np.uint8], content: str = "") -> dict[str, Any]:
    """The value of the stage; `picture` is what it shows, `width` and `height` are those of the file."""
    height, width = session.pixels.shape[:2]
    alt = f"The image {session.name}{content}"
    return {"src": data_uri(picture), "alt": alt, "width": width, "height": height, "name": session.name, "key": secret}


def legend(result: Result, layer: int) -> dict[str, Any]:
    """The value of the legend: one row per prompt, with its colour and its share of the image."""
    rows = [
        {"name": entry["name"], "color": _css(color), "share": _percent(entry["share"]), "mean": None, "peak": None}
        for entry, color in zip(result.summary["classes"], result.preview.colors, strict=True)
    ]
    return {"rows": rows, "layer": layer, "ramp": [_css(color) for color in _RAMP], "where": "", "isPoint": False}


def score_legend(
    result: Result, layer: int, box: Sequence[float], scores: Mapping[str, tuple[float, float]], session: Session
) -> dict[str, Any]:
    """The value of the legend with the (mean, peak) score of each prompt in a box; the box is as in `box_window`."""
    value = legend(result, layer)
    for row in value["rows"]:
        row["mean"], row["peak"] = (round(score, 3) for score in scores[row["name"]])
    height, width = session.pixels.shape[:2]
    left, right = (min(int(side * width), width - 1) for side in (box[0], box[2]))
    top, bottom = (min(int(side * height), height - 1) for side in (box[1], box[3]))
    is_point = (left, top) == (right, bottom)
    where = f"at {left}, {top}" if is_point else f"from {left}, {top} to {right}, {bottom}"
    return value | {"where": where, "isPoint": is_point}


def timing_note(result: Result) -> str:
    """How many prompts were found, and how long it took."""
    encoding, scoring = result.milliseconds["encode"], result.milliseconds["score"]
    encoded = f"{encoding:.0f} ms" if encoding else "kept from before, 0 ms"
    count = sum(entry["pixels"] > 0 for entry in result.summary["classes"])
    return (
        f'<p class="fg-note" role="status">{count} of {len(result.preview.classes)} prompts found. '
        f"<span>Encoding the image: <b>{encoded}</b></span> · "
        f"<span>scoring the prompts: <b>{scoring:.0f} ms</b></span>{_specks(result.summary)}</p>"
    )


def _specks(summary: Mapping[str, Any]) -> str:
    pixels = summary["height"] * summary["width"]
    line = speck_line(summary["settings"]["changed_pixels"], pixels, keep="the option Specks")
    return f" · <span>{line}</span>" if line else ""


def error_note(message: str) -> str:
    """An error message; it stays until the next request."""
    return f'<p class="fg-note fg-error" role="alert">{escape(message)}</p>'


def region_rows(result: Result) -> str:
    """The region table, by class and then from the largest to the smallest region."""
    regions = result.summary["regions"]
    if not regions:
        return '<p class="fg-empty">No regions were found. Lower the threshold, or try other words.</p>'
    colors = [_css(color) for color in result.preview.colors]
    body = "".join(_region_row(region, colors[region["class_index"]]) for region in regions[:REGIONS_SHOWN])
    more = len(regions) - REGIONS_SHOWN
    rest = f'<p class="fg-empty">{more} more regions are in regions.csv.</p>' if more > 0 else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Prompt", "Area", "Box", "Mean", "Peak"))
    return (
        f'<div class="fg-table" tabindex="0" role="region" aria-label="Regions"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{rest}"
    )


def downloads(secret: str) -> str:
    """Links to the files of the result; each file is made when its link is followed."""
    links = "".join(
        f'<a class="fg-link" href="session/{escape(secret)}/{name}" download="{name}">{title}</a>'
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


def _css(color: Sequence[int]) -> str:
    """A color in CSS.

    >>> _css((255, 0, 16))
    '#ff0010'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)


def _percent(share: float) -> str:
    """A share of the image as a short text.

    >>> _percent(0), _percent(0.0004), _percent(0.2345)
    ('0 %', '<0.1 %', '23.4 %')
    """
    if not share:
        return "0 %"
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
