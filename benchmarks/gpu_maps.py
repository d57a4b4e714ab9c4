"""The step `label_maps` of gpu.py: label maps on a device, in several ways, beside the limit of writing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gpu_session import Session, setting
from speed import KINDS
from timing import spread

from fgseg.upsample import argmax
from fgseg.upsample.argmax import Axis, axes, compare_blocks, compare_stacks, sample
from fgseg.upsample.labels import label_map

SCREENS = {"1080p": (1080, 1920), "4K": (2160, 3840)}
TARGETS = {("1080p", 171): 0.003, ("4K", 847): 0.020}  # seconds
STACKED = (2**22, 2**26, 2**28)  # values on pixels held at a time, beside the 2**24 of fgseg


def label_maps(session: Session) -> None:
    """Time label maps of both numbers of classes, on scores like those of a scene and on noise."""
    screens = {"tiny": (54, 96)} if session.tiny else SCREENS
    cases = [(171, "1080p"), (847, "4K"), (847, "1080p"), (171, "4K")]
    for classes, screen in [(20, "tiny")] if session.tiny else cases:
        for kind in KINDS:
            session.part(
                "label_maps",
                f"{screen}, {classes} classes, {kind}",
                lambda screen=screen, classes=classes, kind=kind: _timed(session, screen, screens, classes, kind),
                seconds=25,
            )


def _timed(session: Session, screen: str, screens: dict[str, tuple[int, int]], classes: int, kind: str) -> dict:
    scores, size = KINDS[kind](classes).to(session.device), screens[screen]
    target = TARGETS.get((screen, classes))
    candidates = ways(scores, size, compiled=session.compiled and (session.tiny or target is not None))
    expected = compare_stacks(scores, size)[0]
    times = session.turns(candidates, repeats=15, seconds=5)
    seconds = {name: spread(values) for name, values in times.items()}
    limit = (8 * size[0] * size[1] + scores.nbytes) / session.copy_rate
    ours = seconds["fgseg"]["median"]
    return {
        "seconds": seconds,
        "limit_seconds": float(f"{limit:.4g}"),
        "times_the_limit": round(ours / limit, 1),
        "labels_equal": {name: float((candidates[name]()[0] == expected).float().mean()) for name in times},
        "waits": session.waits(candidates["stacks"]),
        **({} if target is None else {"target": f"< {target} s", "verdict": "pass" if ours < target else "short"}),
    }


def ways(scores: torch.Tensor, size: tuple[int, int], *, compiled: bool) -> dict[str, Callable[[], Any]]:
    """The candidates: fgseg's own way with its checks and without, stacks of other sizes, blocks, and one kernel."""

    def of_size(stacked: int) -> Any:
        with setting(argmax, "_STACKED", stacked):
            return compare_stacks(scores, size)

    candidates: dict[str, Callable[[], Any]] = {
        "fgseg": lambda: label_map(scores, size),
        "stacks": lambda: compare_stacks(scores, size),
        **{f"stacks of 2**{stacked.bit_length() - 1}": lambda n=stacked: of_size(n) for stacked in STACKED},
    }
    if len(scores) < 200:
        candidates["blocks"] = lambda: compare_blocks(scores, size)
    if compiled:
        one_kernel = torch.compile(whole, fullgraph=True, dynamic=False)
        candidates["compiled"] = lambda: one_kernel(scores, *axes(scores, size))
    return candidates


def whole(scores: torch.Tensor, rows: Axis, columns: Axis) -> tuple[torch.Tensor, torch.Tensor]:
    """All maps at once; torch.compile makes one loop over the prompts of it, which keeps no map."""
    maps = sample(scores, rows, columns)
    return maps.argmax(0).int(), maps.amax(0)
