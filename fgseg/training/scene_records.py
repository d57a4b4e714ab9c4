"""Procedural scenes as FineHARD's records: to train on as they are drawn, or written to disk.

`python -m fgseg.training.scene_records --out FOLDER --count 40` writes FOLDER/records.jsonl and FOLDER/images, an
example of the format to copy, and something to try `fgseg train` on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_number
from fgseg._files import write_text
from fgseg.errors import FgsegError
from fgseg.images.writing import write_image
from fgseg.scenes.captions import changed, long_caption, short_caption
from fgseg.scenes.composition import Scene, Thing, phrase_truth, scene
from fgseg.training.records import BadRecord, Record, RegionText
from fgseg.training.samples import FALSE_CAPTIONS

__all__ = ["SceneRecords", "as_entry", "scene_record", "write_scene_records"]

SIDE = 128
SMALLEST = 0.004  # share of the image that a thing must show to be given a box
_WITHOUT_BOX = ("background", "clutter")
_TRIES = 200


class SceneRecords:
    """Scenes as records, drawn when they are asked for. A `Source` without bad records."""

    def __init__(self, count: int, *, first_seed: int = 0, side: int = SIDE) -> None:
        """Take `count` scenes of consecutive seeds, `side` pixels square."""
        check_number("count", count, low=1, high=2**31)
        self.found, self.first_seed, self.side = count, first_seed, side
        self.bad: tuple[BadRecord, ...] = ()
        self.identity = f"scenes:{count}:{first_seed}:{side}"

    def __len__(self) -> int:
        """Scenes there are."""
        return self.found

    def name(self, index: int) -> str:
        """The scene's seed in words."""
        return f"scene {self.first_seed + index}"

    def sample(self, index: int) -> tuple[Record, NDArray[np.uint8]]:
        """A record and its image."""
        seed = self.first_seed + index
        drawn = scene(seed, (self.side, self.side))
        return scene_record(drawn, seed), drawn.image


def scene_record(drawn: Scene, seed: int) -> Record:
    """What FineHARD would say of a scene.

    Args:
        drawn: the scene.
        seed: names the image, and draws the false captions.
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
    """The box of a thing; None for a background, for what has no name, and for what is all but hidden."""
    thing, shown = drawn.things[index], drawn.owners == index
    if thing.shape in _WITHOUT_BOX or shown.mean() < SMALLEST:
        return None
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    height, width = shown.shape
    box = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    text = thing.phrase.text
    left, top, right, bottom = map(float, box)
    return RegionText((left, top, right, bottom), text, f"there is a {text} in the picture", _false(rng, thing))


def _false(rng: np.random.Generator, thing: Thing) -> tuple[str, ...]:
    """Ten phrases that each change one attribute and are not true of the thing; none where they cannot be found."""
    texts: dict[str, None] = {}
    for _ in range(_TRIES):
        phrase = changed(rng, thing.phrase)
        if phrase_truth([thing], [phrase])[0, 0] == 0:
            texts[phrase.text] = None
        if len(texts) == FALSE_CAPTIONS:
            return tuple(texts)
    return ()


def write_scene_records(folder: str | Path, *, count: int, first_seed: int = 0, side: int = SIDE) -> Path:
    """Write scenes as records and images.

    Args:
        folder: gets records.jsonl and images/, which the records' paths start with.
        count: scenes.
        first_seed: of the first; the others follow.
        side: of the square images, in pixels.

    Returns:
        the path of records.jsonl.

    Raises:
        OutputError: the folder cannot be written.
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
    """A record in FineHARD's words; `fgseg.training.records.parse_record` reads it back."""
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
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args(arguments)
    try:
        print(write_scene_records(options.out, count=options.count, first_seed=options.first_seed, side=options.side))
    except FgsegError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
