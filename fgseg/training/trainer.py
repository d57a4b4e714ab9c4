"""The loop: `train` takes a model, records and options, and leaves a folder that `fgseg.load` reads."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from fgseg._files import write_bytes, write_text
from fgseg._version import __version__, version_of
from fgseg.encoders.checkpoint import Checkpoint, find_checkpoint
from fgseg.encoders.devices import pick_dtype
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import OptionError, TrainingError
from fgseg.training.checkpoints import (
    METRICS,
    Saved,
    check_binding,
    kept_metrics,
    read_saved,
    restore,
    save_model,
    save_run,
)
from fgseg.training.distributed import Ranks, joined
from fgseg.training.initialise import decay_groups, parameters_of_stage, start_model
from fgseg.training.loss_plot import loss_curve
from fgseg.training.options import DEFAULTS, TrainingOptions, learning_rate, total_steps
from fgseg.training.records import BadRecord, Source, bad_lines, check_bad_share
from fgseg.training.samples import Batch, Batches, Preparation
from fgseg.training.stages import checkpoint_blocks, step_gradients

__all__ = ["BAD_RECORDS", "CURVE", "RUN", "Outcome", "train"]

BAD_RECORDS, CURVE, RUN = "bad_records.jsonl", "loss.png", "run.json"
LOSSES: tuple[str, ...] = ("loss", "short", "long", "region", "hard")
log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        folder: the model's, for `fgseg.load`.
        steps: done in all.
        losses: of the last step, by name.
        bad: records that were left out.
    """

    folder: Path
    steps: int
    losses: dict[str, float]
    bad: int


@dataclass
class _Run:
    """A run under way; what the loop changes is the model, the optimizer, and `bad`."""

    out: Path
    start: Checkpoint
    source: Source
    options: TrainingOptions
    ranks: Ranks
    device: torch.device
    steps: int
    model: FgClipModel
    optimizer: torch.optim.AdamW
    binding: dict[str, Any]  # what a resumed run must have in common with this one
    bad: dict[int, BadRecord] = field(default_factory=dict)  # found while it runs: an image that cannot be read

    @property
    def all_bad(self) -> list[BadRecord]:
        return [*self.source.bad, *self.bad.values()]


def train(
    model: str,
    source: Source,
    out: str | Path,
    *,
    options: TrainingOptions = DEFAULTS,
    resume: bool = False,
    show_progress: bool = True,
) -> Outcome:
    """Train FG-CLIP on records.

    Under `torchrun`, every process calls this with the same arguments; together they do what one would with the same
    global batch. On a CPU, the same arguments and number of threads give the same weights bit for bit, interrupted
    and resumed or not.

    Args:
        model: name, folder or hub id of an FG-CLIP 1 or CLIP with its tokenizer.
        source: `fgseg.training.records.FileRecords` or `fgseg.training.scene_records.SceneRecords`.
        out: folder for the model and for the run's files: checkpoint.safetensors, metrics.jsonl, loss.png,
            bad_records.jsonl, run.json.
        options: of the run.
        resume: go on from the checkpoint in `out`, or begin where there is none yet.
        show_progress: draw a progress bar on stderr, where that is a terminal.

    Raises:
        OptionError: a value out of range, `out` holds a run and `resume` is not said, or a run with other options;
            or processes that find different records or checkpoints.
        DatasetError: too many bad records.
        TrainingError: the loss is no longer a number, or the checkpoint is not this model's.
        ModelNotFoundError, WeightsError, DeviceError: as `fgseg.load`.
    """
    out = Path(out)
    with joined(options.device) as (ranks, device):
        saved = read_saved(out)
        _check_out(out, saved, resume)
        run = _begin(model, source, out, options, ranks, device, saved)
        first = saved.step if saved else 0
        _check_alike(run, first)
        rows = kept_metrics(out, saved.step) if saved else []
        if ranks.leads:
            _write_beginning(run, rows)
        is_silent = None if show_progress and ranks.leads else True  # None: silent where stderr is no terminal
        with tqdm(total=run.steps, initial=first, unit="step", disable=is_silent) as bar:
            for row in _steps(run, first):
                rows.append(row)
                if ranks.leads:
                    _record(run, rows)
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                bar.update()
        if ranks.leads and first == run.steps:
            _write_model(run, rows)
        last = rows[-1] if rows else {}  # a finished run whose metrics were removed
        losses = {name: float(last[name]) for name in LOSSES if name in last}
        return Outcome(out, run.steps, losses, len(run.all_bad))


def _check_out(out: Path, saved: Saved | None, resume: bool) -> None:
    """Refuse to write over what is there."""
    if saved and not resume:
        raise OptionError(f"out: {out} holds a run of {saved.step} steps; resume it (--resume), or give another folder")
    if not saved and (out / "model.safetensors").exists():
        raise OptionError(f"out: {out} holds a model that no run here has made; give another folder")


def _begin(
    model: str,
    source: Source,
    out: Path,
    options: TrainingOptions,
    ranks: Ranks,
    device: torch.device,
    saved: Saved | None,
) -> _Run:
    """Everything that can be refused is refused here, before the first step."""
    check_bad_share(source.bad, source.found, limit=options.max_bad_share)
    try:
        steps = total_steps(options, records=len(source), world=ranks.world)
    except OptionError as error:
        first = next(iter(source.bad), None)
        if not first:
            raise
        count = f"{len(source.bad)} of {source.found} records are left out"
        raise OptionError(f"{error}; {count}, the first is {first.where}: {first.reason}") from error
    start = find_checkpoint(model)
    Tokenizer(start.folder).words()  # a missing tokenizer is said now
    if options.warmup >= steps:
        log.warning(
            "warmup: %d steps are no fewer than the %d of the run: it never comes to its rate", options.warmup, steps
        )
    network = start_model(
        start,
        temperatures=options.temperatures,
        scratch_seed=options.seed if options.from_scratch else None,
    ).to(device)
    if options.gradient_checkpointing:
        checkpoint_blocks(network)
    trained = parameters_of_stage(network, options.stage)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    optimizer = torch.optim.AdamW(decay_groups(trained, options.weight_decay), lr=options.learning_rate)
    binding = _binding(options, ranks, device) | {"steps": steps, "data": source.identity, "model": start.digest()}
    run = _Run(out, start, source, options, ranks, device, steps, network, optimizer, binding)
    if saved:
        check_binding(saved, binding, out)
        restore(out, network, optimizer)
        run.bad = {index: BadRecord(where, why) for index, where, why in saved.bad}
        log.info("going on from step %d of %d", saved.step, steps)
    return run


def _check_alike(run: _Run, first: int) -> None:
    """Refuse processes that would train different weights or take different records."""
    states = run.ranks.collect([(first, run.binding)])
    if any(state != states[0] for state in states):
        raise OptionError(
            f"out, data: {run.ranks.world} processes must find one checkpoint and the same records, got steps "
            f"{', '.join(str(step) for step, _ in states)}; put {run.out} and the data on a disk that all of them see"
        )


def _binding(options: TrainingOptions, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    """The options that weights depend on, more than by rounding."""
    global_batch = options.batch_size * options.accumulate * ranks.world
    dtype = str(pick_dtype(options.dtype, device)).removeprefix("torch.")
    return {**options.binding(), "dtype": dtype, "global_batch": global_batch}


def _steps(run: _Run, first: int) -> Iterator[dict[str, Any]]:
    """Do the steps from `first` on; yields a row of metrics after each."""
    options = run.options
    loader = _loader(run, first)
    batches = iter(loader)
    dtype = pick_dtype(options.dtype, run.device)
    started = time.monotonic()
    for step in range(first, run.steps):
        taken = [next(batches) for _ in range(options.accumulate)]
        _note_bad(run, taken)
        rate = learning_rate(step, steps=run.steps, options=options)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.optimizer.zero_grad(set_to_none=True)
        losses = step_gradients(run.model, taken, stage=options.stage, dtype=dtype, ranks=run.ranks)
        norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), options.max_norm or float("inf"))
        _refuse_nonsense(run, step, losses["loss"], float(norm))
        run.optimizer.step()
        yield {
            "step": step + 1,
            **losses,
            "learning_rate": rate,
            "gradient_norm": float(norm),
            **_temperatures(run.model),
            **_counts(run, taken),
            "seconds": round(time.monotonic() - started, 3),
        }


def _loader(run: _Run, first: int) -> DataLoader[Batch]:
    options, config = run.options, run.model.config
    preparation = Preparation(
        source=run.source,
        tokenizer=Tokenizer(run.start.folder),
        end_token=config.end_token,
        side=config.side,
        short_limit=config.positions,
        seed=options.seed,
        with_boxes=options.stage == 2,
    )
    batches = Batches(
        preparation,
        steps=range(first, run.steps),
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        rank=run.ranks.rank,
        world=run.ranks.world,
    )
    return DataLoader(batches, batch_size=None, num_workers=options.workers)


def _note_bad(run: _Run, batches: list[Batch]) -> None:
    """Keep what turned out to be bad in any process; too many of them stop all processes alike."""
    new = [item for batch in batches for item in batch.bad]
    if not int(run.ranks.add(torch.tensor(len(new), device=run.device))):
        return
    run.bad |= dict(run.ranks.collect(new))
    if run.ranks.leads:
        write_text(run.out / BAD_RECORDS, bad_lines(run.all_bad))
    check_bad_share(run.all_bad, run.source.found, limit=run.options.max_bad_share)


def _refuse_nonsense(run: _Run, step: int, loss: float, norm: float) -> None:
    if not (abs(loss) < float("inf") and norm < float("inf")):  # false for NaN too
        raise TrainingError(
            f"step {step + 1}: the loss is {loss} and its gradient {norm}; take a lower learning_rate or dtype "
            f"float32. The last checkpoint in {run.out} stands"
        )


def _temperatures(model: FgClipModel) -> dict[str, float]:
    scales = {
        "logit_scale": model.logit_scale,
        "region_logit_scale": model.logit_scale_finegraind,
        "hard_logit_scale": model.logit_scale_hardneg,
    }
    return {name: float(scale.detach().exp()) for name, scale in scales.items()}


def _counts(run: _Run, batches: list[Batch]) -> dict[str, int]:
    """Of the step: images, boxes, boxes with false captions, texts cut at their route's limit; and bad records."""
    own = [(len(batch.pixels), len(batch.boxes), len(batch.hard_rows), batch.cut) for batch in batches]
    totals = run.ranks.add(torch.tensor(own, device=run.device).sum(0)).tolist()
    return dict(zip(("images", "boxes", "hard_boxes", "cut_texts"), totals, strict=True)) | {"bad": len(run.all_bad)}


def _write_beginning(run: _Run, rows: list[dict[str, Any]]) -> None:
    write_text(run.out / BAD_RECORDS, bad_lines(run.all_bad))
    log.info("%s", check_bad_share(run.all_bad, run.source.found, limit=run.options.max_bad_share))
    write_text(run.out / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    versions = {name: version_of(name) for name in ("torch", "numpy", "pillow")}
    about = {
        "fgseg": __version__, "model": run.start.name, "revision": run.start.revision, "records": len(run.source),
        "processes": run.ranks.world, "options": asdict(run.options), "binding": run.binding, "versions": versions,
    }  # fmt: skip
    write_text(run.out / RUN, json.dumps(about, indent=2) + "\n")


def _record(run: _Run, rows: list[dict[str, Any]]) -> None:
    """Log the last row; write a checkpoint and the model where it is time."""
    with (run.out / METRICS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(rows[-1]) + "\n")
    step = rows[-1]["step"]
    if step % run.options.checkpoint_every == 0 or step == run.steps:
        bad = tuple((index, one.where, one.reason) for index, one in run.bad.items())
        save_run(run.out, Saved(step, run.binding, bad), run.model, run.optimizer)
        _write_model(run, rows)


def _write_model(run: _Run, rows: list[dict[str, Any]]) -> None:
    save_model(run.out, run.model, run.start)
    if rows:
        write_bytes(run.out / CURVE, loss_curve(rows))
