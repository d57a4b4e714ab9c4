"""Average two checkpoints of the embedded model's recipe: `python -m recipes.mini.average FIRST SECOND --out FOLDER`.

Weights between two points of one run are often better than either (Izmailov et al., arXiv:1803.05407): what steps at a
high learning rate leave as noise in each is averaged away.
"""

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgseg.errors import FgsegError, OptionError, WeightsError
from recipes.mini import recipe as mini, shifts

__all__ = ["average", "mixed"]


def average(first: Path, second: Path, out: Path, *, share: float = 0.5) -> Path:
    """Write the model between two checkpoints of the shifts' stage, as the recipe writes a run's.

    Args:
        first: checkpoint.pt of a run, from before any steps through attention.
        second: another of the same run, or of one that began from it.
        out: folder for config.json, model.safetensors and tokenizer.json.
        share: of the second, in [0, 1].

    Returns:
        `out`.

    Raises:
        WeightsError: a file that holds no checkpoint, one of the stage of attention, or two of models of other sizes.
        OptionError: a share outside [0, 1].
    """
    tokenizer = mini.build_tokenizer()
    config = mini.full_config(tokenizer)
    model = mini.new_model(config)
    shifts.prepare(model)
    weights = mixed(_weights(first), _weights(second), share)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(
            f"{first}: expected weights of the recipe's model, got others; name its checkpoint.pt"
        ) from error
    if not shifts.went_through(weights):
        raise WeightsError(
            f"{first}, {second}: expected checkpoints of the stage of shifts, got one from after it; name earlier ones"
        )
    mini.save(mini.with_attention(model), tokenizer, config, out)
    return out


def mixed(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) of the first and `share` of the second, by tensor; those that are no floats are the second's."""
    if not 0 <= share <= 1:
        raise OptionError(f"share: expected a number in [0, 1], got {share}")
    if {name: t.shape for name, t in first.items()} != {name: t.shape for name, t in second.items()}:
        raise WeightsError("second: expected a checkpoint with the first's tensors, got others; name two of one run")
    return {name: torch.lerp(first[name], t, share) if t.is_floating_point() else t for name, t in second.items()}


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, weights_only=True, map_location="cpu")
        return dict(state["model"])
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: expected a checkpoint.pt of the recipe, got {error!r:.80}") from error


def main() -> None:
    """Command line of the average."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second, in [0, 1]")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    try:
        print(average(asked.first, asked.second, asked.out, share=asked.share))
    except FgsegError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
