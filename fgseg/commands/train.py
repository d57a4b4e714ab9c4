"""The command `fgseg train`: the two training stages of FG-CLIP on your own records."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fgseg.commands.arguments import check_writable
from fgseg.commands.options import AsJson, Device, named_folder, with_option_groups
from fgseg.commands.terminal.output import log_to_stderr, pairs, progress_bar, to_json
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.training.records import Source

__all__ = ["train"]

SCENES = "scenes:"


@dataclass(frozen=True)
class RecipeOptions:
    """The fields of `fgseg.training.options.TrainingOptions` as command line options."""

    stage: Annotated[int, Option(min=1, max=2, help="1: images and captions. 2: also boxes and hard negatives.")] = 2
    batch_size: Annotated[int, Option(min=1, help="Images per batch, in each process.")] = 512
    accumulate: Annotated[
        int, Option(min=1, help="Batches per optimizer step. Above 1, each image goes through the model twice.")
    ] = 1
    epochs: Annotated[int, Option(min=1, help="Passes over the records; ignored if --steps is given.")] = 1
    steps: Annotated[int | None, Option(min=1, help="Optimizer steps. [default: as many as --epochs needs]")] = None
    learning_rate: Annotated[float, Option(min=0, help="Peak rate of AdamW; it falls to 0 along a cosine.")] = 1e-6
    warmup: Annotated[int, Option(min=0, help="Steps of linear warm-up.")] = 200
    weight_decay: Annotated[float, Option(min=0, help="Not applied to biases, LayerNorms and temperatures.")] = 1e-3
    max_norm: Annotated[float, Option(min=0, help="Maximum norm of the gradient; 0 disables clipping.")] = 1.0
    temperatures: Annotated[
        str, Option(help="Initial box temperature. copy: that of whole images, as published. keep: its own.")
    ] = "copy"
    from_scratch: Annotated[
        bool, Option("--from-scratch", help="Keep the model's sizes and tokenizer, but draw random weights.")
    ] = False
    dtype: Annotated[str, Option(help="auto, float32 or bfloat16; the weights stay float32.")] = "auto"
    device: Device = "auto"
    gradient_checkpointing: Annotated[
        bool, Option(help="Use a fraction of the memory for a third more time; the results are the same.")
    ] = True
    seed: Annotated[
        int, Option(min=0, help="Seed of the order of records, the choice of captions, and random weights.")
    ] = 0
    checkpoint_every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 1000
    max_bad_share: Annotated[float, Option(min=0, max=1, help="Stop if a larger share of records is bad.")] = 0.05
    workers: Annotated[int, Option(min=0, help="Processes that read images, per training process.")] = 2


@with_option_groups
def train(
    *,
    model: Annotated[str, Option(help="FG-CLIP 1 or CLIP to start from: a name, a folder with a tokenizer, a hub id.")],
    data: Annotated[
        list[str],
        Option(
            help="FineHARD records: .json, .jsonl, or a folder of them; repeat for more. Or scenes:N, N drawn scenes."
        ),
    ],
    out: Annotated[Path, Option("--out", "-o", parser=named_folder, metavar="FOLDER", help="Output folder.")],
    images: Annotated[Path | None, Option(help="Folder of the images, to which f_path is relative.")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue from the checkpoint in --out, or start if there is none.")
    ] = False,
    recipe: RecipeOptions,
    as_json: AsJson = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Show the traceback of an unexpected error.")] = False,
) -> None:
    """Fine-tune FG-CLIP on captioned images and boxes. See docs/training.md.

    The defaults are those of the published recipe. A run that was stopped continues from its last checkpoint if the
    same command is given with --resume. On several GPUs: torchrun --nproc-per-node N -m fgseg train ...
    """
    from fgseg.training.options import TrainingOptions
    from fgseg.training.trainer import train as run

    options = TrainingOptions(**asdict(recipe))
    check_writable(out)
    is_first = os.environ.get("RANK", "0") == "0"  # set by torchrun; only the first process prints
    is_silent = quiet or not is_first
    log_to_stderr(logging.ERROR if is_silent else logging.INFO)
    source = _source(data, images, quiet=is_silent)
    outcome = run(model, source, out, options=options, resume=resume, show_progress=not quiet)
    if is_first:
        result = {"model": str(outcome.folder), "steps": outcome.steps, "bad_records": outcome.bad, **outcome.losses}
        typer.echo(to_json(result) if as_json else pairs(result))


def _source(data: list[str], images: Path | None, *, quiet: bool) -> Source:
    """The records that `--data` and `--images` name."""
    from fgseg.training.records import FileRecords
    from fgseg.training.scene_records import SceneRecords

    if scenes := [source for source in data if source.startswith(SCENES)]:
        count = scenes[0].removeprefix(SCENES)
        if len(data) > 1 or not count.isdigit() or not int(count):
            raise OptionError(
                f"--data: expected a single scenes:N with N of at least 1, got {', '.join(data)!r}; give --data once"
            )
        return SceneRecords(int(count))
    if images is None:
        raise OptionError(
            "--images: expected the folder that the paths in f_path are relative to, got none; give --images ."
        )
    return FileRecords(data, images, watch=partial(progress_bar, unit="record", desc="checking", quiet=quiet))
