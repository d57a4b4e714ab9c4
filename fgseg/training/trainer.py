"""The training loop. `train` writes a folder that `fgseg.load` reads."""

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from fgseg._files.writers import write_bytes, write_text
from fgseg._version import __version__, version_of
from fgseg.encoders.checkpoint import Checkpoint, verified_checkpoint
from fgseg.encoders.devices import pick_dtype
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import OptionError, TrainingError
from fgseg.training import checkpoints
from fgseg.training.distributed import ProcessGroup, join_processes
from fgseg.training.initialise import initial_model, parameter_groups, stage_parameters
from fgseg.training.loss_plot import LOSSES, plot_losses
from fgseg.training.options import DEFAULTS, TrainingOptions, learning_rate, total_steps
from fgseg.training.records import BadRecord, Source, bad_lines, check_bad_share
from fgseg.training.samples import Batch, Batches, Preparation
from fgseg.training.stages import checkpoint_blocks, step_gradients

__all__ = ["BAD_RECORDS", "LOSS_PLOT", "RUN", "Outcome", "train"]

BAD_RECORDS, LOSS_PLOT, RUN = "bad_records.jsonl", "loss.png", "run.json"
HEADER = ("step", "binding", "bad")  # of a checkpoint
log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes:
        folder: folder of the model, for `fgseg.load`.
        steps: number of steps.
        losses: losses of the last step by name.
        bad: number of records that were left out.
    """

    folder: Path
    steps: int
    losses: dict[str, float]
    bad: int


@dataclass
class _Run:
    """The state of a run. The loop changes the model, the optimizer and `bad`."""

    out: Path
    initial: Checkpoint
    source: Source
    options: TrainingOptions
    processes: ProcessGroup
    device: torch.device
    steps: int
    model: FgClipModel
    optimizer: torch.optim.AdamW
    binding: dict[str, Any]  # values that a resumed run must share with this one
    bad: dict[int, BadRecord] = field(default_factory=dict)  # found during training, such as unreadable images

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

    Under `torchrun`, every process calls this with the same arguments; the result is that of one process with the same
    global batch. On a CPU, the same arguments and number of threads give the same weights bit for bit, also if the run
    is interrupted and resumed.

    Args:
        model: name, folder or hub id of an FG-CLIP 1 or CLIP with its tokenizer.
        source: records, such as `fgseg.training.FileRecords` or `fgseg.training.SceneRecords`.
        out: folder for the model and for the run's files: checkpoint.safetensors, metrics.jsonl, loss.png,
            bad_records.jsonl, run.json.
        options: of the run.
        resume: continue from the checkpoint in `out`; without a checkpoint, begin a new run.
        show_progress: show a progress bar if stderr is a terminal.

    Raises:
        OptionError: a value is out of range; `out` holds a run, but `resume` is False or other options differ; or
            processes find different records or checkpoints.
        DatasetError: too many bad records.
        TrainingError: the loss is not finite, or the checkpoint belongs to another model.
        OutputError: a file in `out` cannot be written.
        ModelNotFoundError, WeightsError, DeviceError: as `fgseg.load`.
    """
    out = Path(out)
    with join_processes(options.device) as (processes, device):
        saved = checkpoints.read_header(out, HEADER)
        _check_out(out, saved, resume)
        run = _begin(model, source, out, options, processes, device, saved)
        first = saved["step"] if saved else 0
        _check_same_state(run, first)
        rows = checkpoints.kept_metrics(out, first) if saved else []
        if processes.leads:
            _write_beginning(run, rows)
        disable = None if show_progress and processes.leads else True  # None disables the bar outside a terminal
        with tqdm(total=run.steps, initial=first, unit="step", disable=disable) as bar:
            for row in _steps(run, first):
                rows.append(row)
                if processes.leads:
                    _record(run, rows)
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                bar.update()
        if processes.leads and first == run.steps:
            _write_model(run, rows)
        last = rows[-1] if rows else {}  # the metrics of a finished run may have been removed
        losses = {name: float(last[name]) for name in LOSSES if name in last}
        return Outcome(out, run.steps, losses, len(run.all_bad))


def _check_out(out: Path, saved: dict[str, Any] | None, resume: bool) -> None:
    """Refuse to overwrite a run or a model."""
    if saved and not resume:
        raise OptionError(
            f"out: {out} holds a run of {saved['step']} steps; resume it (--resume), or give another folder"
        )
    if not saved and (out / "model.safetensors").exists():
        raise OptionError(f"out: {out} holds a model but no checkpoint of a run; give another folder")


def _begin(
    model: str,
    source: Source,
    out: Path,
    options: TrainingOptions,
    processes: ProcessGroup,
    device: torch.device,
    saved: dict[str, Any] | None,
) -> _Run:
    """Prepare the run. All errors that can be found before the first step are raised here."""
    check_bad_share(source.bad, source.found, limit=options.max_bad_share)
    steps = _step_count(options, source, processes.world_size)
    initial = verified_checkpoint(model)
    Tokenizer(initial.folder).words()  # raises an error if there is no tokenizer
    if options.warmup >= steps:
        log.warning("warmup: the run has %d steps, so %d steps of warm-up do not end", steps, options.warmup)
    scratch_seed = options.seed if options.from_scratch else None
    network = initial_model(initial, temperatures=options.temperatures, scratch_seed=scratch_seed).to(device)
    if options.gradient_checkpointing:
        checkpoint_blocks(network)
    trained = stage_parameters(network, options.stage)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    optimizer = torch.optim.AdamW(parameter_groups(trained, options.weight_decay), lr=options.learning_rate)
    binding = options.binding() | {
        "dtype": str(pick_dtype(options.dtype, device)).removeprefix("torch."),
        "global_batch": options.batch_size * options.accumulate * processes.world_size,
        "steps": steps,
        "data": source.identity,
        "model": initial.digest(),
    }
    run = _Run(out, initial, source, options, processes, device, steps, network, optimizer, binding)
    if saved:
        checkpoints.check_binding(saved["binding"], binding, out)
        checkpoints.restore(out, network, [optimizer])
        run.bad = {index: BadRecord(where, why) for index, where, why in saved["bad"]}
        log.info("resuming from step %d of %d", saved["step"], steps)
    return run


def _step_count(options: TrainingOptions, source: Source, world_size: int) -> int:
    """As `total_steps`; the error also reports the bad records."""
    try:
        return total_steps(options, records=len(source), world_size=world_size)
    except OptionError as error:
        if not source.bad:
            raise
        first = source.bad[0]
        count = f"{len(source.bad)} of {source.found} records are left out"
        raise OptionError(f"{error}; {count}, the first is {first.where}: {first.reason}") from error


def _check_same_state(run: _Run, first: int) -> None:
    """Refuse processes that begin at different steps or with different records."""
    states = run.processes.collect([(first, run.binding)])
    if any(state != states[0] for state in states):
        raise OptionError(
            f"out, data: expected the same checkpoint and records for all {len(states)} processes, got steps "
            f"{', '.join(str(step) for step, _ in states)}; put {run.out} and the data on a disk that all of them share"
        )


def _steps(run: _Run, first: int) -> Iterator[dict[str, Any]]:
    """Perform the steps from `first` on, and yield a row of metrics after each."""
    options = run.options
    loader = _loader(run, first)
    batches = iter(loader)
    dtype = pick_dtype(options.dtype, run.device)
    started = time.monotonic()
    for step in range(first, run.steps):
        step_batches = [next(batches) for _ in range(options.accumulate)]
        _collect_bad(run, step_batches)
        rate = learning_rate(step, steps=run.steps, options=options)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.optimizer.zero_grad(set_to_none=True)
        losses = step_gradients(run.model, step_batches, stage=options.stage, dtype=dtype, processes=run.processes)
        norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), options.max_norm or float("inf"))
        _check_finite(run, step, losses["loss"], float(norm))
        run.optimizer.step()
        yield {
            "step": step + 1,
            **losses,
            "learning_rate": rate,
            "gradient_norm": float(norm),
            **_temperatures(run.model),
            **_counts(run, step_batches),
            "seconds": round(time.monotonic() - started, 3),
        }


def _loader(run: _Run, first: int) -> DataLoader[Batch]:
    preparation = Preparation(run.source, Tokenizer(run.initial.folder), run.model.config, run.options)
    batches = Batches(preparation, range(first, run.steps), run.processes)
    return DataLoader(batches, batch_size=None, num_workers=run.options.workers)


def _collect_bad(run: _Run, batches: list[Batch]) -> None:
    """Collect the new bad records of all processes; too many stop every process."""
    new = [item for batch in batches for item in batch.bad]
    if not int(run.processes.add(torch.tensor(len(new), device=run.device))):
        return
    run.bad |= dict(run.processes.collect(new))
    if run.processes.leads:
        write_text(run.out / BAD_RECORDS, bad_lines(run.all_bad))
    check_bad_share(run.all_bad, run.source.found, limit=run.options.max_bad_share)


def _check_finite(run: _Run, step: int, loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"step {step + 1}: the loss is {loss} and the norm of its gradient {norm}; use a lower learning_rate or "
            f"dtype float32. The last checkpoint in {run.out} is still valid"
        )


def _temperatures(model: FgClipModel) -> dict[str, float]:
    scales = {
        "logit_scale": model.logit_scale,
        "region_logit_scale": model.logit_scale_finegraind,
        "hard_logit_scale": model.logit_scale_hardneg,
    }
    return {name: float(scale.detach().exp()) for name, scale in scales.items()}


def _counts(run: _Run, batches: list[Batch]) -> dict[str, int]:
    """Images, boxes, boxes with false captions and cut texts of the step, and bad records of the run."""
    own = [(len(batch.pixels), len(batch.boxes), len(batch.hard_rows), batch.cut) for batch in batches]
    totals = run.processes.add(torch.tensor(own, device=run.device).sum(0)).tolist()
    return dict(zip(("images", "boxes", "hard_boxes", "cut_texts"), totals, strict=True)) | {"bad": len(run.all_bad)}


def _write_beginning(run: _Run, rows: list[dict[str, Any]]) -> None:
    write_text(run.out / BAD_RECORDS, bad_lines(run.all_bad))
    log.info("%s", check_bad_share(run.all_bad, run.source.found, limit=run.options.max_bad_share))
    checkpoints.write_metrics(run.out, rows)
    versions = {name: version_of(name) for name in ("torch", "numpy", "pillow")}
    about = {
        "fgseg": __version__, "model": run.initial.name, "revision": run.initial.revision, "records": len(run.source),
        "processes": run.processes.world_size, "options": asdict(run.options), "binding": run.binding,
        "versions": versions,
    }  # fmt: skip
    write_text(run.out / RUN, json.dumps(about, indent=2) + "\n")


def _record(run: _Run, rows: list[dict[str, Any]]) -> None:
    """Write the last row, and in steps with a checkpoint also the checkpoint and the model."""
    checkpoints.append_metrics(run.out, rows[-1])
    step = rows[-1]["step"]
    if step % run.options.checkpoint_every == 0 or step == run.steps:
        bad = [(index, record.where, record.reason) for index, record in run.bad.items()]
        header = {"step": step, "binding": run.binding, "bad": bad}
        checkpoints.save_checkpoint(run.out, header, run.model, [run.optimizer])
        _write_model(run, rows)


def _write_model(run: _Run, rows: list[dict[str, Any]]) -> None:
    checkpoints.save_model(run.out, run.model, run.initial)
    if rows:
        write_bytes(run.out / LOSS_PLOT, plot_losses(rows))
