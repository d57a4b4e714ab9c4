"""The gain of the towers' optimised operations over plain torch: `python benchmarks/choices.py`.

The script times parts of a ViT-B tower on one image (197 tokens) and on six windows in both dtypes, with random values.
The candidates take turns as in `speed.py`. A ratio is the time of the plain operation over that of the optimised one.

* weights: the products of a block on weights in oneDNN's memory order, against `F.linear`.
* gelu: an MLP whose products include the factors of quick GELU, against an MLP that multiplies by them.
* attention: torch's fused kernel, which the towers use, against two explicit products for some heads at a time; and the
  distance of both from float64 by the spread of the scores. Explicit products round the scores to the dtype.
"""

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import DTYPES, load, machine, merge, ratio, spread, take_turns
from torch import Tensor
from torch.nn import functional as F

from fgseg.encoders.networks.blocks import QUICK_GELU_SCALE, Attention, Mlp, TowerConfig, pack_weights

SEED = 731
RESULTS = Path(__file__).parent / "results" / "choices.json"
TOKENS, WIDTH, HEADS = 197, 768, 12
IMAGES = {"one_image": 1, "six_windows": 6}
SPREADS = (1, 2, 4, 8, 16)  # standard deviations of scores
CONFIG = TowerConfig(
    width=WIDTH, layers=1, heads=HEADS, mlp_width=4 * WIDTH, activation="quick_gelu", epsilon=1e-5
)  # ViT-B's


def filled(module: torch.nn.Module, dtype: str) -> torch.nn.Module:
    """A module with random weights that keep values near one, prepared like the modules of an encoder."""
    for parameter in module.parameters():
        parameter.requires_grad_(False).normal_(std=parameter.shape[-1] ** -0.5)
    module.to(DTYPES[dtype])
    pack_weights(module)
    return module


def tokens(images: int, dtype: str) -> Tensor:
    """Random tokens (images, TOKENS, WIDTH)."""
    return torch.randn(images, TOKENS, WIDTH).to(DTYPES[dtype])


def weights(images: int, dtype: str) -> dict[str, Callable[[], Any]]:
    """The six products of a block, in both ways."""
    attention, mlp = filled(Attention(CONFIG), dtype), filled(Mlp(CONFIG), dtype)
    narrow, wide = tokens(images, dtype), tokens(images, dtype).repeat(1, 1, 4)
    layers = [(layer, narrow) for layer in attention.children()] + [(mlp.fc1, narrow), (mlp.fc2, wide)]
    return {
        "plain": lambda: [F.linear(x, layer.weight, layer.bias) for layer, x in layers],
        "ours": lambda: [layer(x) for layer, x in layers],
    }


def gelu(images: int, dtype: str) -> dict[str, Callable[[], Any]]:
    """An MLP in both ways; both use weights in oneDNN's memory order."""
    mlp, x = filled(Mlp(CONFIG), dtype), tokens(images, dtype)

    def plain() -> Tensor:
        hidden = mlp.fc1(x)
        return mlp.fc2(hidden * torch.sigmoid(QUICK_GELU_SCALE * hidden))

    return {"plain": plain, "ours": lambda: mlp(x)}


def attention(images: int, dtype: str) -> dict[str, Callable[[], Any]]:
    """The attention of all heads of a block, in both ways."""
    q, k, v = heads(images, spread_of_scores=1, dtype=dtype)
    return {"plain": lambda: written_out(q, k, v), "ours": lambda: F.scaled_dot_product_attention(q, k, v)}


def heads(images: int, *, spread_of_scores: float, dtype: str) -> list[Tensor]:
    """Queries, keys and values (images, HEADS, TOKENS, WIDTH / HEADS) with that spread of scores."""
    scales = (spread_of_scores**0.5, spread_of_scores**0.5, 1)
    made = [scale * torch.randn(images, TOKENS, HEADS, WIDTH // HEADS) for scale in scales]
    return [tensor.to(DTYPES[dtype]).transpose(1, 2) for tensor in made]


def written_out(q: Tensor, k: Tensor, v: Tensor, *, at_once: int = 12) -> Tensor:
    """Attention by two products for `at_once` heads at a time, whose scores fit into the cache."""
    queries, keys, values = (tensor.flatten(0, 1).split(at_once) for tensor in (q, k, v))
    parts = [
        (a * (WIDTH // HEADS) ** -0.5 @ b.transpose(1, 2)).softmax(-1) @ c
        for a, b, c in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(parts).view(*q.shape)


def errors(dtype: str) -> dict[str, Any]:
    """Mean absolute difference of both ways from float64, by the spread of the scores."""
    rows = {}
    for spread_of_scores in SPREADS:
        q, k, v = heads(1, spread_of_scores=spread_of_scores, dtype=dtype)
        exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
        plain, ours = (
            float((way(q, k, v).double() - exact).abs().mean()) for way in (written_out, F.scaled_dot_product_attention)
        )
        rows[f"scores_of_{spread_of_scores}"] = {
            "plain": float(f"{plain:.3g}"), "ours": float(f"{ours:.3g}"), "times_as_far": round(plain / ours, 2)
        }  # fmt: skip
    return rows


CHOICES = {"weights": weights, "gelu": gelu, "attention": attention}


def measured(choice: str, repeats: int) -> dict[str, Any]:
    """The ratios and times of one operation in each dtype and size."""
    figures: dict[str, Any] = {}
    for dtype in DTYPES:
        for size, images in IMAGES.items():
            times = take_turns(CHOICES[choice](images, dtype), repeats=repeats)
            figures[f"{dtype}, {size}"] = {
                "times_faster": ratio(times, "plain", "ours"),
                **{name: spread(both["wall"]) for name, both in times.items()},
            }
    return figures


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="number of turns of each candidate")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    with torch.inference_mode():
        for choice in CHOICES:
            merge(options.out, {choice: measured(choice, options.repeats)})
        merge(options.out, {"attention_error": {dtype: errors(dtype) for dtype in DTYPES}})
    about = {"machine": machine(), "load": load(), "seed": SEED, "versions": {"torch": torch.__version__}}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    merge(options.out, {**about, "repeats": options.repeats, "date": now})


if __name__ == "__main__":
    main()
