"""What the page shows of an image and its result: values for the scripts of the page, and small pieces of HTML."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._files.html import html_template
from fgseg.drawing.colors import colorize
from fgseg.images.writing import encode_jpeg
from fgseg.segmentation.result import Segmentation
from fgseg.web.examples import FULL_MODEL_COMMAND
from fgseg.web.service import FILES
from fgseg.web.sessions import Result, Session

__all__ = [
    "data_uri",
    "downloads",
    "error_note",
    "heatmap",
    "legend",
    "masks",
    "region_rows",
    "score_legend",
    "stage",
    "timing_note",
    "word_chips",
]

REGIONS_SHOWN = 100
_RAMP = colorize(np.linspace(0, 1, 9)[None])[0].tolist()  # the colours of heatmaps, from 0 to 1


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a data URI, so that no file on the server is needed."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode("ascii")


def stage(secret: str, session: Session, picture: NDArray[np.uint8]) -> dict[str, Any]:
    """The value of the stage; `picture` is what it shows, `width` and `height` are those of the file."""
    height, width = session.pixels.shape[:2]
    return {"src": data_uri(picture), "width": width, "height": height, "name": session.name, "key": secret}


def masks(result: Result, session: Session) -> dict[str, Any]:
    """The value of the masks, from which the browser draws them and tells the class and presence under the pointer.

    Labels are 16-bit, presence is in per cent, of the class of the label. Masks that may overlap have one bit per pixel
    and class. Arrays are compressed, so they take about as many bytes as the image.
    """
    preview = result.preview
    height, width = preview.labels.shape
    overlapping = np.packbits([preview.masks[name] for name in preview.classes], axis=None)
    return {
        "width": width,
        "height": height,
        "imageWidth": session.pixels.shape[1],
        "imageHeight": session.pixels.shape[0],
        "names": list(preview.classes),
        "colors": [list(color) for color in preview.colors],
        "labels": _compressed(preview.labels.astype("<u2")),  # UNLABELLED becomes 65535
        "presence": _compressed(_presence_percent(preview)),
        "overlapping": None if preview.mode == "exclusive" else _compressed(overlapping),
    }


def heatmap(session: Session, picture: NDArray[np.uint8] | None, content: str) -> dict[str, Any]:
    """The value of the heatmap above the image, None for none, with a description of what is shown in all."""
    src = None if picture is None else data_uri(picture)
    return {"src": src, "alt": f"The image {session.name}{content}"}


def legend(result: Result, secret: str | None, layer: int) -> dict[str, Any]:
    """The value of the legend: one row per prompt, with its colour and its share of the image."""
    rows = [
        {"name": entry["name"], "color": _css(color), "share": _percent(entry["share"]), "mean": None, "peak": None}
        for entry, color in zip(result.summary["classes"], result.preview.colors, strict=True)
    ]
    ramp = [_css(color) for color in _RAMP]
    return {"rows": rows, "key": secret, "layer": layer, "ramp": ramp, "where": "", "isPoint": False}


def score_legend(
    result: Result,
    secret: str | None,
    layer: int,
    box: Sequence[float],
    scores: Mapping[str, tuple[float, float]],
    session: Session,
) -> dict[str, Any]:
    """The value of the legend with the (mean, peak) score of each prompt in a box; the box is as in `box_window`."""
    value = legend(result, secret, layer)
    for row in value["rows"]:
        row["mean"], row["peak"] = (round(score, 3) for score in scores[row["name"]])
    height, width = session.pixels.shape[:2]
    left, right = (min(int(side * width), width - 1) for side in (box[0], box[2]))
    top, bottom = (min(int(side * height), height - 1) for side in (box[1], box[3]))
    is_point = (left, top) == (right, bottom)
    where = f"at {left}, {top}" if is_point else f"from {left}, {top} to {right}, {bottom}"
    return value | {"where": where, "isPoint": is_point}


@cache
def _fragments() -> Any:
    """The macros of fragments.html."""
    return html_template(Path(__file__).parent / "assets" / "fragments.html").module


def word_chips(model: str, count: int, groups: Mapping[str, Sequence[str]]) -> str:
    """What a model with a closed vocabulary knows, in one sentence, and buttons that add its words to the prompts."""
    return str(_fragments().word_chips(model, ", ".join(groups) or f"{count} words", groups, FULL_MODEL_COMMAND))


def timing_note(result: Result) -> str:
    """How many prompts were found, and how long it took."""
    encoding, scoring = (f"{result.milliseconds[what]:.0f} ms" for what in ("encode", "score"))
    encoded = encoding if result.milliseconds["encode"] else "kept from before, 0 ms"
    found = sum(entry["pixels"] > 0 for entry in result.summary["classes"])
    return str(_fragments().timing_note(found, len(result.preview.classes), encoded, scoring))


def error_note(message: str) -> str:
    """An error message; it stays until the next request."""
    return str(_fragments().error_note(message))


def region_rows(result: Result) -> str:
    """The region table, from the largest to the smallest region. The largest region of each class is always shown."""
    regions = sorted(result.summary["regions"], key=lambda region: -region["area"])
    largest = {region["class_index"]: region for region in reversed(regions)}
    shown = regions[:REGIONS_SHOWN]
    shown += [region for region in regions[REGIONS_SHOWN:] if largest[region["class_index"]] is region]
    colors = [_css(color) for color in result.preview.colors]
    missing = [name for index, name in enumerate(result.preview.classes) if index not in largest]
    return str(_fragments().region_rows(shown, colors, missing, len(regions) - len(shown)))


def downloads(secret: str) -> str:
    """Links to the files of the result; each file is made when its link is followed."""
    return str(_fragments().downloads(secret, {name: title for name, (_, _, title) in FILES.items()}))


def _presence_percent(preview: Segmentation) -> NDArray[np.uint8]:
    """(h, w): the presence of the class of each pixel's label, 0 where there is none."""
    percent = np.zeros(preview.labels.shape, np.uint8)
    for index, name in enumerate(preview.classes):
        mask = preview.labels == index
        if mask.any():
            percent[mask] = np.rint(100 * preview.scores[name][mask])
    return percent


def _compressed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), level=1)).decode("ascii")


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
