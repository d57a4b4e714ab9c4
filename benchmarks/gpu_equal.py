"""The step `equal` of gpu.py: what a device computes, in comparison with the CPU in float32.

In float32 every value has to be within 1e-5 and 99.99 % of all labels equal. For bfloat16 and float16 the differences
are written and not judged. Presence is a logistic function of differences of two cosines, so it may differ by the
slope of that function, a quarter of the model's logit scale, times the two cosines' 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_encoder import model_folder
from gpu_session import DTYPES, Session
from numpy.typing import NDArray
from scenes import FIRST_SEED
from speed import KINDS, photo

import fgseg
from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.clip import RECIPES
from fgseg.encoders.networks.guided import GUIDED_RECIPES
from fgseg.encoders.pixels import pixel_batch
from fgseg.guides.propagation import PROPAGATIONS
from fgseg.scenes.composition import Scene, scene
from fgseg.scenes.vocabulary import CLUTTER
from fgseg.scoring.windows import stitch_chunks, window_boxes
from fgseg.similarity import patch_scores, unit
from fgseg.types import LazyMaps
from fgseg.upsample.labels import label_map, running_label_map

TOLERANCE, LABELS_EQUAL = 1e-5, 0.9999
SCENES, FEW_SCENES, SIDE = 20, 4, 224
TINY_SIDE = 96
PHOTOGRAPHS, TINY_PHOTOGRAPHS = ((480, 640), (1080, 1920), (100, 90), (224, 500)), ((97, 131), (224, 60))
GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "golden"
RAW = {"min_area": 0, "max_hole": 0}
REFINEMENTS = ("none", "guided", "pamr")
SEED = 731

Found = Mapping[str, NDArray[Any]]  # whole numbers are labels, other numbers are values


def equality(session: Session, place: Path) -> None:
    """Compare everything that a device computes; the first parts need no model."""
    for name, work in {
        "patch_scores": _patch_scores,
        "resized pixels": _resized_pixels,
        "stitched windows": _stitched,
    }.items():
        session.part("equal", name, partial(work, session), seconds=5)
    screen = (54, 96) if session.tiny else (1080, 1920)
    for classes in (20,) if session.tiny else (171, 847):
        for kind in KINDS:
            session.part("equal", f"label map, {classes}, {kind}", partial(_label_map, session, classes, kind, screen))
    embedded = Embedded(session)
    for name, ask in embedded.questions().items():
        session.part("equal", f"embedded model, {name}", partial(embedded.compared, ask), seconds=15)
    for name in sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir()):
        session.part("equal", f"features of {name}", partial(_features, session, GOLDEN / name), seconds=3)
    base = model_folder(place, "base", tiny=session.tiny)
    session.part("equal", "features of base", partial(_features, session, base), seconds=20)


def differences(expected: Found, found: Found) -> dict[str, float]:
    """The largest difference of each kind of values, and the share of equal labels."""
    told = {}
    for name, value in expected.items():
        if np.issubdtype(value.dtype, np.integer) or value.dtype == np.bool_:
            told[f"equal {name}"] = float((value == found[name]).mean())
        else:
            told[name] = float(np.abs(value - found[name]).max())
    return told


def judged(told: dict[str, float], tolerances: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The differences with a verdict; `tolerances` has those other than 1e-5."""
    limits = tolerances or {}
    shares = [value for name, value in told.items() if name.startswith("equal ")]
    holds = all(value <= limits.get(name, TOLERANCE) for name, value in told.items() if not name.startswith("equal "))
    holds &= all(share >= LABELS_EQUAL for share in shares)
    target = {"target": f"<= {TOLERANCE}, >= {LABELS_EQUAL} of labels"}
    other = {"other_tolerances": dict(limits)} if limits else {}
    return {**told, **target, **other, "verdict": "pass" if holds else "short"}


def in_dtypes(session: Session, compute: Callable[[str, torch.device], Found]) -> dict[str, Any]:
    """Differences of the device from the CPU in float32, judged for float32 and told for the other dtypes."""
    expected = compute("float32", torch.device("cpu"))
    row = judged(differences(expected, compute("float32", session.device)))
    return row | {
        dtype: differences(expected, compute(dtype, session.device)) for dtype in DTYPES if dtype != "float32"
    }


def _patch_scores(session: Session) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(SEED)
    grid, text = (unit(torch.randn(*shape, generator=generator)) for shape in ((32, 48, 512), (171, 512)))

    def compute(dtype: str, device: torch.device) -> Found:
        # Features of half precision are of unit length but for their rounding, as those of an encoder.
        given = [tensor.to(device, DTYPES[dtype]) for tensor in (grid, text)]
        return {"cosines": patch_scores(*given).cpu().numpy()}

    return in_dtypes(session, compute)


def _resized_pixels(session: Session) -> dict[str, Any]:
    """Pixels that the device resizes and normalises, in comparison with Pillow's."""
    told: dict[str, float] = {}
    for height, width in TINY_PHOTOGRAPHS if session.tiny else PHOTOGRAPHS:
        image = photo(height, width, SEED)
        for filter_ in ("bicubic", "bilinear"):
            made = [
                pixel_batch([image], (SIDE, SIDE), filter=filter_, resizing=how, device=device)  # type: ignore[arg-type]
                for how, device in (("pillow", torch.device("cpu")), ("device", session.device))
            ]
            expected, found = (normalized_pixels(pixels).cpu().numpy() for pixels in made)
            told[f"{height} x {width}, {filter_}"] = float(np.abs(expected - found).max())
    return judged(told)


def _stitched(session: Session) -> dict[str, Any]:
    canvas_hw, generator = (336, 448), torch.Generator().manual_seed(SEED)
    boxes = window_boxes(canvas_hw, crop=224, stride=112)
    windows = [2 * torch.rand(171, 14, 14, generator=generator) - 1 for _ in boxes]

    def compute(dtype: str, device: torch.device) -> Found:
        given = [window.to(device, DTYPES[dtype]) for window in windows]
        canvas = torch.cat(list(stitch_chunks(given, boxes, canvas_hw)))
        labels, best = running_label_map(stitch_chunks(given, boxes, canvas_hw), (480, 640))
        return {"canvas": canvas.cpu().numpy(), "best": best.cpu().numpy(), "labels": labels.cpu().numpy()}

    return in_dtypes(session, compute)


def _label_map(session: Session, classes: int, kind: str, screen: tuple[int, int]) -> dict[str, Any]:
    scores = KINDS[kind](classes)

    def compute(dtype: str, device: torch.device) -> Found:
        labels, best = label_map(scores.to(device, DTYPES[dtype]), screen)
        return {"best": best.cpu().numpy(), "labels": labels.cpu().numpy()}

    return in_dtypes(session, compute)


@torch.inference_mode()
def _features(session: Session, folder: Path) -> dict[str, Any]:
    image = photo(150, 200, SEED)

    def compute(dtype: str, device: torch.device) -> Found:
        (features,) = load_encoder(str(folder), device=device, dtype=dtype).encode_images([image])
        return {"features": features.grid.cpu().numpy()}

    return in_dtypes(session, compute)


Ask = Callable[[fgseg.Segmenter, Scene, list[str]], Found]


@dataclass
class Embedded:
    """Questions to the embedded model about scenes, answered by the device and by the CPU."""

    session: Session
    _loaded: dict[tuple[Any, ...], fgseg.Segmenter] = field(default_factory=dict)

    @cached_property
    def scenes(self) -> list[tuple[Scene, list[str]]]:
        """Scenes and the things that are in each."""
        count, side = (1, TINY_SIDE) if self.session.tiny else (SCENES, SIDE)
        drawn = [scene(FIRST_SEED + seed, (side, side)) for seed in range(count)]
        return [(one, [thing.phrase.text for thing in one.things if thing.shape != CLUTTER]) for one in drawn]

    def questions(self) -> dict[str, tuple[Ask, dict[str, Any], bool]]:
        """Name -> question, arguments of `fgseg.load`, and whether it is about all scenes and dtypes."""
        made: dict[str, tuple[Ask, dict[str, Any], bool]] = {
            "labels and presence": (_labels_and_presence, {}, True),
            "independent masks": (_masks, {}, True),
            "heatmaps": (_heatmaps, {}, True),
            "windows": (partial(_labels, resolution="slide"), {}, True),
            "boxes": (_boxes, {}, True),
            "rank": (_rank, {}, True),
        }
        for recipe in RECIPES:
            made[f"recipe {recipe}"] = (partial(_labels, refine="none"), {"recipe": recipe}, False)
        for recipe in GUIDED_RECIPES:
            regions = {"region_map": "superpixels"} if recipe == "corr" else {}
            loading = {"recipe": recipe, "guide": "self"}
            made[f"recipe {recipe}, guide self"] = (partial(_labels, refine="none", **regions), loading, False)
        for propagate in PROPAGATIONS[1:]:
            made[f"propagate {propagate}"] = (partial(_labels, refine="none", propagate=propagate), {}, False)
            loading = {"guide": "self"}
            made[f"propagate {propagate}, guide self"] = (partial(_labels, propagate=propagate), loading, False)
        for refine in REFINEMENTS:
            made[f"refine {refine}"] = (partial(_labels, refine=refine), {}, False)
        made["votes of regions"] = (partial(_labels, region_map="superpixels", vote=True), {}, False)
        return made

    def compared(self, question: tuple[Ask, dict[str, Any], bool]) -> dict[str, Any]:
        """The largest differences over all scenes, and the smallest share of equal labels over all of them."""
        ask, loading, is_whole = question
        cpu, scenes = torch.device("cpu"), self.scenes if is_whole else self.scenes[:FEW_SCENES]

        def answers(dtype: str, device: torch.device) -> list[Found]:
            seg = self._segmenter(dtype, device, **loading)
            return [ask(seg, drawn, words) for drawn, words in scenes]

        expected, scale = answers("float32", cpu), self._segmenter("float32", cpu).encoder.logit_scale
        tolerances = {name: 2 * scale / 4 * TOLERANCE for name in ("presence", "probabilities")}
        found = answers("float32", self.session.device)
        used = {name: tolerances[name] for name in tolerances if name in expected[0]}
        row = judged(_joined(expected, found), used)
        for dtype in ("bfloat16", "float16") if is_whole else ():
            row[dtype] = _joined(expected, answers(dtype, self.session.device))
        return row

    def _segmenter(self, dtype: str, device: torch.device, **loading: Any) -> fgseg.Segmenter:
        """The embedded model, loaded once for each set of arguments."""
        key = dtype, device, *loading.items()
        if key not in self._loaded:
            self._loaded[key] = fgseg.load("mini", device=device, dtype=dtype, **loading)
        return self._loaded[key]


def _joined(expected: list[Found], found: list[Found]) -> dict[str, float]:
    """`differences` over all scenes."""
    return differences(_flat(expected), _flat(found))


def _flat(answers: list[Found]) -> Found:
    return {name: np.concatenate([answer[name].ravel() for answer in answers]) for name in answers[0]}


def _stack(maps: LazyMaps[Any] | Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return np.stack([maps[name] for name in maps])


def _labels(seg: fgseg.Segmenter, drawn: Scene, words: list[str], **options: Any) -> Found:
    return {"labels": seg.segment(drawn.image, words, **RAW, **options).labels}


def _labels_and_presence(seg: fgseg.Segmenter, drawn: Scene, words: list[str]) -> Found:
    result = seg.segment(drawn.image, words, **RAW)
    cosine = seg.similarity(drawn.image, words)
    return {"labels": result.labels, "presence": _stack(result.scores), "cosines": cosine}


def _masks(seg: fgseg.Segmenter, drawn: Scene, words: list[str]) -> Found:
    return {"masks": _stack(seg.segment(drawn.image, words, mode="independent", **RAW).masks)}


def _heatmaps(seg: fgseg.Segmenter, drawn: Scene, words: list[str]) -> Found:
    return {"presence": _stack(seg.heatmaps(drawn.image, words))}


def _boxes(seg: fgseg.Segmenter, drawn: Scene, words: list[str]) -> Found:
    height, width = drawn.image.shape[:2]
    boxes = np.array([[0, 0, 1, 1], [0.05, 0.1, 0.45, 0.67], [0.53, 0.27, 0.9, 0.98]]) * [width, height, width, height]
    scores = seg.score_boxes(drawn.image, boxes, words)
    return {"cosines": scores.cosine, "probabilities": scores.probabilities}


def _rank(seg: fgseg.Segmenter, drawn: Scene, words: list[str]) -> Found:
    ranking = seg.rank([drawn.image, drawn.image[::2, ::2]], words)
    return {"cosines": ranking.cosine, "order": ranking.order}
