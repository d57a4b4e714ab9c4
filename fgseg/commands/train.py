"""The command `fgseg train`: FG-CLIP's two training stages on a user's records."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgseg.commands.arguments import check_writable
from fgseg.commands.options import Device, named_folder
from fgseg.commands.output import log_to_stderr, pairs, to_json
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.training.records import Source

__all__ = ["train"]

SCENES = "scenes:"


def train(
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Initial FG-CLIP 1 or CLIP: a name, a folder with weights and tokenizer, or a hub id."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Records in FineHARD's format: a .json or .jsonl file, or a folder of such files. Can be repeated. "
            "scenes:N draws N procedural scenes instead.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=named_folder, metavar="FOLDER", help="Folder for the model and the files of the run."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that the paths in f_path are relative to.")
    ] = None,
    stage: Annotated[
        int, typer.Option(min=1, max=2, help="1 trains on whole images; 2 also on boxes and hard negatives.")
    ] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in --out, if there is one.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass and process.")] = 512,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1,
            help="Batches accumulated per optimiser step. The losses compare the images of all of them, which takes a "
            "second forward pass.",
        ),
    ] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all records, unless --steps is given.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps. [default: those of --epochs]")] = None,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Peak learning rate of AdamW, with cosine decay to 0.")
    ] = 1e-6,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 200,
    weight_decay: Annotated[
        float, typer.Option(min=0, help="Weight decay of all weights but biases, LayerNorms and temperatures.")
    ] = 1e-3,
    max_norm: Annotated[
        float, typer.Option(min=0, help="Maximum norm of the gradient; 0 disables gradient clipping.")
    ] = 1.0,
    temperatures: Annotated[
        str,
        typer.Option(
            help="Initial temperatures of an FG-CLIP's boxes: copy takes that of whole images, as published; keep "
            "takes those of the checkpoint."
        ),
    ] = "copy",
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Train from random weights, with the sizes and tokenizer of the model."),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Precision: auto, float32 or bfloat16. Weights are stored in float32.")
    ] = "auto",
    device: Device = "auto",
    gradient_checkpointing: Annotated[
        bool, typer.Option(help="Use a fraction of the memory for a third more computing time; same results.")
    ] = True,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the order of records, the choice among captions, and random weights.")
    ] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 1000,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum share of bad records; a larger share stops the run.")
    ] = 0.05,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare records, per training process; 0 uses none.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Hide the progress bar and the log.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    """Fine-tune FG-CLIP on captioned images and boxes; see docs/training.md.

    The defaults are those of the published training. To resume an interrupted run, repeat the command with --resume. On
    several GPUs: torchrun --nproc-per-node N -m fgseg train ...
    """
    from fgseg.training.options import TrainingOptions
    from fgseg.training.trainer import train as run

    options = TrainingOptions(
        stage=stage, batch_size=batch_size, accumulate=accumulate, epochs=epochs, steps=steps,
        learning_rate=learning_rate, warmup=warmup, weight_decay=weight_decay, max_norm=max_norm, dtype=dtype,
        device=device, seed=seed, from_scratch=from_scratch, temperatures=temperatures,  # type: ignore[arg-type]
        gradient_checkpointing=gradient_checkpointing, checkpoint_every=checkpoint_every,
        max_bad_share=max_bad_share, workers=workers,
    )  # fmt: skip
    check_writable(out)
    leads = os.environ.get("RANK", "0") == "0"  # set by torchrun; only the first process prints
    is_silent = quiet or not leads
    log_to_stderr(logging.WARNING if is_silent else logging.INFO)
    source = _source(data, images, quiet=is_silent)
    outcome = run(model, source, out, options=options, resume=resume, show_progress=not quiet)
    if not leads:
        return
    report: dict[str, Any] = {
        "model": str(outcome.folder), "steps": outcome.steps, "bad_records": outcome.bad, **outcome.losses,
    }  # fmt: skip
    typer.echo(to_json(report) if as_json else pairs(report))


def _source(data: list[str], images: Path | None, *, quiet: bool) -> Source:
    """The records that `--data` and `--images` name."""
    from fgseg.training.records import FileRecords
    from fgseg.training.scene_records import SceneRecords

    if scenes := [place for place in data if place.startswith(SCENES)]:
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

    def watch(entries: Iterator[Any]) -> Iterator[Any]:
        from tqdm import tqdm

        return iter(tqdm(entries, unit="record", desc="checking", file=sys.stderr, disable=True if quiet else None))

    return FileRecords(data, images, watch=watch)
