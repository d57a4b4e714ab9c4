"""Procedural scenes as records of FineHARD's format, drawn during training or written to disk.

`python -m fgseg.training.scene_records --out FOLDER --count 40` writes FOLDER/records.jsonl and FOLDER/images, as an
example of the format and as data for a first run of `fgseg train`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_number
from fgseg._files.writers import write_text
from fgseg.errors import FgsegError
from fgseg.images.writing import write_image
from fgseg.scenes.captions import change_phrase, long_caption, short_caption
from fgseg.scenes.composition import Scene, Thing, phrase_truth, scene
from fgseg.training.records import BadRecord, Record, RegionText
from fgseg.training.samples import FALSE_CAPTIONS

__all__ = ["SceneRecords", "as_entry", "scene_record", "write_scene_records"]

SIDE = 128
MIN_AREA = 0.004  # minimum visible share of the image for a thing to get a box
_WITHOUT_BOX = ("background", "clutter")
_TRIES = 200


class SceneRecords:
    """Scenes as records, drawn on access. A `Source` without bad records."""

    def __init__(self, count: int, *, first_seed: int = 0, side: int = SIDE) -> None:
        """Use `count` square scenes of consecutive seeds and `side` pixels."""
        check_number("count", count, low=1, high=2**31)
        self.found, self.first_seed, self.side = count, first_seed, side
        self.bad: tuple[BadRecord, ...] = ()
        self.identity = f"scenes:{count}:{first_seed}:{side}"

    def __len__(self) -> int:
        """Number of scenes."""
        return self.found

    def name(self, index: int) -> str:
        """The word "scene" and the seed."""
        return f"scene {self.first_seed + index}"

    def sample(self, index: int) -> tuple[Record, NDArray[np.uint8]]:
        """A record and its image."""
        seed = self.first_seed + index
        drawn = scene(seed, (self.side, self.side))
        return scene_record(drawn, seed), drawn.image


def scene_record(drawn: Scene, seed: int) -> Record:
    """The record of a scene.

    Args:
        drawn: the scene.
        seed: names the image, and seeds the choice of false captions.
    """
    rng = np.random.default_rng([41, seed])
    regions = [_region(rng, drawn, index) for index in range(len(drawn.things))]
    return Record(
        image=f"images/{seed:06d}.png",
        caption=long_caption(drawn),
        short_caption=short_caption(drawn),
        regions=tuple(region for region in regions if region),
    )


def _region(rng: np.random.Generator, drawn: Scene, index: int) -> RegionText | None:
    """The box of a thing; None for a background, for a thing without a name, and for a nearly hidden thing."""
    thing, mask = drawn.things[index], drawn.labels == index
    if thing.shape in _WITHOUT_BOX or mask.mean() < MIN_AREA:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    left, right = float(columns[0] / width), float((columns[-1] + 1) / width)
    top, bottom = float(rows[0] / height), float((rows[-1] + 1) / height)
    text = thing.phrase.text
    negatives = _false_phrases(rng, thing)
    return RegionText((left, top, right, bottom), text, f"there is a {text} in the picture", negatives)


def _false_phrases(rng: np.random.Generator, thing: Thing) -> tuple[str, ...]:
    """Ten false phrases that differ from the true one in one attribute; empty if not found in _TRIES tries."""
    texts: dict[str, None] = {}
    for _ in range(_TRIES):
        phrase = change_phrase(rng, thing.phrase)
        if phrase_truth([thing], [phrase])[0, 0] == 0:
            texts[phrase.text] = None
        if len(texts) == FALSE_CAPTIONS:
            return tuple(texts)
    return ()


def write_scene_records(folder: str | Path, *, count: int, first_seed: int = 0, side: int = SIDE) -> Path:
    """Write scenes as records and images.

    Args:
        folder: output folder for records.jsonl and images/. The paths in the records are relative to it.
        count: number of scenes.
        first_seed: seed of the first scene; the others have the following seeds.
        side: side of the square images in pixels.

    Returns:
        the path of records.jsonl.

    Raises:
        OutputError: a file cannot be written.
    """
    source, lines = SceneRecords(count, first_seed=first_seed, side=side), []
    for index in range(count):
        record, image = source.sample(index)
        write_image(Path(folder) / record.image, image)
        lines.append(json.dumps(as_entry(record)) + "\n")
    path = Path(folder) / "records.jsonl"
    write_text(path, "".join(lines))
    return path


def as_entry(record: Record) -> dict[str, Any]:
    """A record as an object of FineHARD's format, the inverse of `fgseg.training.records.parse_record`."""
    return {
        "f_path": record.image,
        "caption": record.caption,
        "short_caption": record.short_caption,
        "bbox_info": [
            {
                "bbox": [*region.box_xyxy, 1.0],
                "short_expr": region.short,
                "long_expr": region.long,
                "flag_short_neg": int(bool(region.negatives)),
                "short_expr_negs": {str(number): text for number, text in enumerate(region.negatives)},
            }
            for region in record.regions
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write scene records from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--count", type=int, default=40, help="number of scenes")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--side", type=int, default=SIDE, help="side of the images in pixels")
    options = parser.parse_args(arguments)
    try:
        print(write_scene_records(options.out, count=options.count, first_seed=options.first_seed, side=options.side))
    except FgsegError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
