"""What a person asks a benchmark for, turned into data sets, their faults and tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fgseg._checks import check_choice, check_whole
from fgseg._files import one_line
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.preflight import preflight
from fgseg.datasets.scenes import MEASURED_SEED, SCENE_SETS, SWEPT_SEED, SceneLabels, open_scenes
from fgseg.datasets.standard_sets import STANDARD_SETS
from fgseg.errors import OptionError
from fgseg.evaluation.runner import Task
from fgseg.evaluation.tasks.box_data import BoxSet, open_boxes
from fgseg.evaluation.tasks.boxes import BoxTask, box_faults
from fgseg.evaluation.tasks.class_texts import known_classes
from fgseg.evaluation.tasks.retrieval import CaptionSet, RetrievalTask, caption_faults, open_captions
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.evaluation.tasks.sweep import Grid, SweepTask
from fgseg.prompts.templates import templates_named
from fgseg.scoring.resolution import whole_image
from fgseg.segmenter import Segmenter

__all__ = ["TASKS", "Asked", "Data", "faults", "folder_names", "make_task", "open_data"]

Data = Dataset | BoxSet | CaptionSet
TASKS = ("segmentation", "boxes", "retrieval")
KNOWN, ALL = "known", "all"
"""In `only`: the classes that the model has words for, which is the default, and every class."""


@dataclass(frozen=True)
class Asked:
    """The options of a benchmark, None where the default is wanted.

    Attributes:
        task: one of TASKS.
        data: names of standard or procedural sets, folders, or annotation files; "standard" is all eight.
        root: folder of a standard set's data, or of the images of an annotation file.
        words: "names", "synonyms", or a class file that gives the classes other words.
        only: names of classes to keep, "known" or "all".
        settings: what `settings_for` takes.
        grid: the values of a sweep; None for one setting.
        route: text route of retrieval.
        scenes, side: number and size of procedural scenes.
        limit: most images of a set, its first ones.
    """

    task: str = "segmentation"
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


def open_data(asked: Asked) -> list[Data]:
    """The data sets, their lists read and nothing else.

    Raises:
        DatasetError, OptionError, PromptError: as `open_dataset`, `open_boxes` and `open_captions`.
    """
    check_choice("task", asked.task, TASKS)
    if asked.limit is not None:
        check_whole("limit", asked.limit, low=1, high=2**62)
    if asked.route != "short" and asked.task != "retrieval":
        raise OptionError(f"route: {asked.task} takes no text route, got {asked.route!r}; leave it out")
    named = [name for text in asked.data for name in (STANDARD_SETS if text == "standard" else (text,))]
    if asked.root is not None and set(named) <= set(SCENE_SETS):
        raise OptionError(f"root: procedural scenes have no files, got {asked.root}; leave it out")
    return [_limited(_opened(name, asked), asked.limit) for name in named]


def faults(data: Data) -> tuple[str, ...]:
    """What is wrong with the files of a data set, found without a model; a line a fault."""
    if isinstance(data, BoxSet):
        return box_faults(data)
    if isinstance(data, CaptionSet):
        return caption_faults(data)
    is_drawn = bool(data.items) and all(isinstance(item.source, SceneLabels) for item in data.items)
    return () if is_drawn else preflight(data)


def make_task(seg: Segmenter, data: Data, asked: Asked) -> Task:
    """The task of a data set; its words are encoded, so that one the model does not know is refused here.

    Raises:
        PromptError, OptionError, DatasetError: options or words that do not fit.
    """
    given = dict(asked.settings)
    if isinstance(data, CaptionSet):
        _refuse("retrieval takes a route alone", [*given, *_of_segmentation(asked)])
        return RetrievalTask(seg, data, asked.route)
    if isinstance(data, BoxSet):
        return _box_task(seg, data, asked)
    templates = templates_named(given.get("templates") or seg.defaults.templates)
    if asked.only == (KNOWN,):
        data = known_classes(seg.encoder, data, templates)
    settings = settings_for(seg, data, **given)
    task = SegmentationTask(seg, data, settings) if asked.grid is None else SweepTask(seg, data, settings, asked.grid)
    _ = task.words
    return task


def _opened(name: str, asked: Asked) -> Data:
    if asked.task == "boxes":
        return open_boxes(_path(name), asked.root)
    if asked.task == "retrieval":
        return open_captions(_path(name), asked.root)
    if name in SCENE_SETS:
        seed = MEASURED_SEED if asked.grid is None else SWEPT_SEED
        data = open_scenes(name, count=asked.scenes, side=asked.side, first_seed=seed)
    else:
        takes_root = name in STANDARD_SETS or Path(name).suffix.lower() == ".json" or len(asked.data) == 1
        data = open_dataset(name, asked.root if takes_root else None, words=asked.words)
    return data if asked.only in ((KNOWN,), (ALL,)) else data.select_classes(asked.only)


def _path(name: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise OptionError(f"data: expected a file with boxes or captions, got {one_line(name)}, which is not there")
    return path


def _limited(data: Data, limit: int | None) -> Data:
    if limit is None or limit >= len(data.items if isinstance(data, Dataset) else data.images):
        return data
    if isinstance(data, Dataset):
        return replace(data, items=data.items[:limit], full_size=data.full_size or len(data.items))
    images: Any = data.images[:limit]  # of the same kind as `data`, which types cannot say
    return replace(data, images=images, full_size=len(data.images))


def _of_segmentation(asked: Asked) -> list[str]:
    """What was asked that segmentation alone can be asked."""
    named = {"sweep": asked.grid is not None, "words": asked.words is not None, "only": asked.only != (KNOWN,)}
    return [name for name, is_given in named.items() if is_given]


def _refuse(why: str, options: Sequence[str]) -> None:
    if options:
        raise OptionError(f"{options[0].removesuffix('_name')}: {why}; leave it out")


def _box_task(seg: Segmenter, data: BoxSet, asked: Asked) -> BoxTask:
    given = dict(asked.settings)
    taken = ("templates", "resolution")
    unused = [name for name in given if name not in taken]
    _refuse("boxes take templates and a resolution alone", [*unused, *_of_segmentation(asked)])
    resolution = given.get("resolution", "auto")
    chosen = whole_image(seg.defaults.resolution) if resolution == "auto" else str(resolution)
    if chosen.startswith("slide"):
        raise OptionError(f"resolution: boxes are pooled from the whole image, got {chosen}; use squash or keep")
    task = BoxTask(seg, data, templates_named(given.get("templates") or seg.defaults.templates), chosen)
    if data.classes:
        _ = task.words
    return task


def folder_names(data: Sequence[Data]) -> list[str]:
    """A folder name for each data set, no two the same.

    >>> from fgseg.evaluation.tasks.box_data import BoxSet
    >>> folder_names([BoxSet("my boxes", Path(), (), ()), BoxSet("my boxes", Path(), (), ())])
    ['my-boxes', 'my-boxes-2']
    """
    names: list[str] = []
    for one in data:
        base = (
            "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in one.name).strip(".") or "data"
        )
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names
