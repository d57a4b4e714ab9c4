"""From the options of a benchmark to data sets, their faults and tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

from fgseg._files.names import one_line
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.scenes import MEASURED_SEED, SCENE_SETS, SWEPT_SEED, SceneLabels, open_scenes
from fgseg.datasets.standard_sets import STANDARD_SETS
from fgseg.errors import OptionError
from fgseg.evaluation.runner import EvaluationTask
from fgseg.evaluation.tasks.box_data import BoxSet, open_boxes
from fgseg.evaluation.tasks.boxes import BoxTask
from fgseg.evaluation.tasks.class_texts import known_classes
from fgseg.evaluation.tasks.retrieval import CaptionSet, RetrievalTask, open_captions
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.evaluation.tasks.sweep import Grid, SweepTask
from fgseg.prompts.templates import templates_named
from fgseg.scoring.resolution import whole_image
from fgseg.segmenter import Segmenter

__all__ = ["BenchmarkRequest", "EvaluationData", "faults", "folder_names", "make_task", "open_data"]

EvaluationData = Dataset | BoxSet | CaptionSet
KNOWN, ALL = "known", "all"
"""Values of `only`: the classes that the model has words for, which is the default, and every class."""


@dataclass(frozen=True)
class BenchmarkRequest:
    """The options of a benchmark.

    Attributes:
        task: "segmentation", "boxes" or "retrieval".
        data: names of standard or procedural sets, folders, or annotation files; "standard" is all eight.
        root: folder of the data of a standard set, or of the images of an annotation file.
        words: "names", "synonyms", or a class file that gives the classes other words; None takes the default.
        only: names of the classes to keep, "known" or "all".
        settings: keyword arguments of `settings_for`.
        grid: the values of a sweep; None measures one setting.
        route: text route of retrieval.
        scenes: number of scenes in each procedural set.
        side: side of the procedural scenes in pixels.
        limit: number of images to keep of each set, counted from the first; None keeps all.
    """

    task: Literal["segmentation", "boxes", "retrieval"] = "segmentation"
    data: tuple[str, ...] = SCENE_SETS
    root: Path | None = None
    words: str | Path | None = None
    only: tuple[str, ...] = (KNOWN,)
    settings: tuple[tuple[str, Any], ...] = ()
    grid: Grid | None = None
    route: Literal["short", "long"] = "short"
    scenes: int = 60
    side: int = 224
    limit: int | None = None


def open_data(request: BenchmarkRequest) -> list[EvaluationData]:
    """The data sets; only their lists are read.

    Raises:
        DatasetError, OptionError, PromptError: as `open_dataset`, `open_boxes` and `open_captions`.
    """
    if request.route != "short" and request.task != "retrieval":
        raise OptionError(f"route: {request.task} takes no text route, got {request.route!r}; leave it out")
    names = [name for text in request.data for name in (STANDARD_SETS if text == "standard" else (text,))]
    if request.root is not None and set(names) <= set(SCENE_SETS):
        raise OptionError(f"root: procedural scenes have no files, got {request.root}; leave it out")
    return [_limited(_opened(name, request), request.limit) for name in names]


def faults(data: EvaluationData) -> tuple[str, ...]:
    """The faults of the files of a data set, found without a model, one line per fault."""
    if not isinstance(data, Dataset):
        return data.faults()
    is_procedural = bool(data.items) and all(isinstance(item.source, SceneLabels) for item in data.items)
    return () if is_procedural else preflight(data)


def make_task(seg: Segmenter, data: EvaluationData, request: BenchmarkRequest) -> EvaluationTask:
    """The task of a data set; its words are encoded here, so that unknown words are refused at once.

    Raises:
        PromptError, OptionError, DatasetError: options or words that do not fit.
    """
    settings = dict(request.settings)
    if isinstance(data, CaptionSet):
        _refuse("retrieval takes only a route", [*settings, *_segmentation_options(request)])
        return RetrievalTask(seg, data, request.route)
    templates = templates_named(settings.get("templates") or seg.defaults.benchmark_templates)
    if isinstance(data, BoxSet):
        unused = [name for name in settings if name not in ("templates", "resolution")]
        _refuse("boxes take only templates and a resolution", [*unused, *_segmentation_options(request)])
        return _box_task(seg, data, templates, settings.get("resolution", "auto"))
    if request.only == (KNOWN,):
        data = known_classes(seg, data, templates)
    base = settings_for(seg, data, **settings)
    task = SegmentationTask(seg, data, base) if request.grid is None else SweepTask(seg, data, base, request.grid)
    _ = task.texts, task.rivals
    return task


def _opened(name: str, request: BenchmarkRequest) -> EvaluationData:
    if request.task == "boxes":
        return open_boxes(_existing(name), request.root)
    if request.task == "retrieval":
        return open_captions(_existing(name), request.root)
    if name in SCENE_SETS:
        seed = MEASURED_SEED if request.grid is None else SWEPT_SEED
        data = open_scenes(name, count=request.scenes, side=request.side, first_seed=seed)
    else:
        takes_root = name in STANDARD_SETS or Path(name).suffix.lower() == ".json" or len(request.data) == 1
        data = open_dataset(name, request.root if takes_root else None, words=request.words)
    return data if request.only in ((KNOWN,), (ALL,)) else data.select_classes(request.only)


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise OptionError(f"data: expected a file with boxes or captions, got {one_line(name)}, which does not exist")
    return path


def _limited(data: EvaluationData, limit: int | None) -> EvaluationData:
    entries: Any = data.items if isinstance(data, Dataset) else data.images
    if limit is None or limit >= len(entries):
        return data
    if isinstance(data, Dataset):
        return replace(data, items=entries[:limit], full_size=data.full_size or len(entries))
    return replace(data, images=entries[:limit], full_size=len(entries))


def _segmentation_options(request: BenchmarkRequest) -> list[str]:
    """The given options that only segmentation takes."""
    given = {"sweep": request.grid is not None, "words": request.words is not None, "only": request.only != (KNOWN,)}
    return [name for name, is_given in given.items() if is_given]


def _refuse(reason: str, options: Sequence[str]) -> None:
    if options:
        raise OptionError(f"{options[0].removesuffix('_name')}: {reason}; leave it out")


def _box_task(seg: Segmenter, data: BoxSet, templates: tuple[str, ...], resolution: Any) -> BoxTask:
    named = whole_image(seg.defaults.resolution) if resolution == "auto" else str(resolution)
    if named.startswith("slide"):
        raise OptionError(f"resolution: boxes are pooled from the whole image, got {named}; use squash or keep")
    task = BoxTask(seg, data, templates, named)
    if data.classes:
        _ = task.texts
    return task


def folder_names(data: Sequence[EvaluationData]) -> list[str]:
    """A folder name for each data set, all distinct.

    >>> folder_names([BoxSet("my boxes", Path(), ()), BoxSet("my boxes", Path(), ())])
    ['my-boxes', 'my-boxes-2']
    """
    names: list[str] = []
    for one in data:
        letters = [letter if letter.isalnum() or letter in "-_." else "-" for letter in one.name]
        base = "".join(letters).strip(".") or "data"
        candidates = chain([base], (f"{base}-{number}" for number in count(2)))
        names.append(next(name for name in candidates if name not in names))
    return names
