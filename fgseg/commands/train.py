"""The command `fgseg train`: FG-CLIP's two training stages on one's own records."""

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
        str, typer.Option("--model", help="FG-CLIP 1 or CLIP to start from: a name, a folder with tokenizer, a hub id.")
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="FineHARD records: a .json or .jsonl file, or a folder of them; again for more. Or scenes:N, "
            "N procedural scenes.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=named_folder, metavar="FOLDER", help="Folder for the model and the run's files."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that the records' f_path starts from.")
    ] = None,
    stage: Annotated[
        int, typer.Option(min=1, max=2, help="1: whole images with captions. 2: boxes and hard negatives as well.")
    ] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out; begin where there is none yet.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once, by each process.")] = 512,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1, help="Such batches a step. The losses compare all their images, at the cost of a second pass."
        ),
    ] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Times every record is seen, unless --steps is given.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the optimizer. [default: what --epochs take]")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak rate of AdamW; a cosine takes it to 0.")] = 1e-6,
    warmup: Annotated[int, typer.Option(min=0, help="Steps over which the rate rises.")] = 200,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of all but biases, LayerNorms and temperatures.")] = 1e-3,
    max_norm: Annotated[float, typer.Option(min=0, help="Longer gradients are scaled down to this; 0 for none.")] = 1.0,
    temperatures: Annotated[
        str,
        typer.Option(
            help="Of an FG-CLIP's boxes: copy starts them anew from that of whole images, as published; keep goes on."
        ),
    ] = "copy",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Take the model's sizes and tokenizer, and draw first weights.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16; weights stay float32.")] = "auto",
    device: Device = "auto",
    gradient_checkpointing: Annotated[
        bool, typer.Option(help="A fraction of the memory for a third more time; same results.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the records' order and the choice among captions.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 1000,
    max_bad_share: Annotated[float, typer.Option(min=0, max=1, help="Share of bad records that stops the run.")] = 0.05,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images, for each that trains.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no log.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where an unexpected error came from.")] = False,
) -> None:
    """Fine-tune FG-CLIP on captioned images and boxes; see docs/training.md.

    Defaults are the published recipe's. Killed at any time, the same command with --resume goes on from the last
    checkpoint. On several GPUs: torchrun --nproc-per-node N -m fgseg train ...
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
    leads = os.environ.get("RANK", "0") == "0"  # torchrun's; one process speaks for all
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
    """What `--data` and `--images` stand for."""
    from fgseg.training.records import FileRecords
    from fgseg.training.scene_records import SceneRecords

    if scenes := [place for place in data if place.startswith(SCENES)]:
        count = scenes[0].removeprefix(SCENES)
        if len(data) > 1 or not count.isdigit() or not int(count):
            raise OptionError(f"--data: expected scenes:N alone, N a number from 1 on, got {', '.join(data)!r}")
        return SceneRecords(int(count))
    if images is None:
        raise OptionError(
            "--images: expected the folder that the records' f_path starts from, got none; say --images ."
        )

    def watch(entries: Iterator[Any]) -> Iterator[Any]:
        from tqdm import tqdm

        return iter(tqdm(entries, unit="record", desc="checking", file=sys.stderr, disable=True if quiet else None))

    return FileRecords(data, images, watch=watch)
