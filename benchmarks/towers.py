"""Full-size models with random weights, beside transformers' CLIP and SigLIP 2: `python benchmarks/towers.py`.

Each model of a published size is made with random weights and loaded twice: by fgseg from its folder, and into
transformers' classes. For images of the native size and of another shape, and for texts, results/towers.json holds the
largest difference of a feature, the largest difference of a cosine of patch and text, and the share of pixels whose
label is the same for ten texts. The dense features of transformers' towers follow the model card of FG-CLIP: the last
block without its attention (`value`), or with it (`vanilla`).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from random_model import FG_CLIP_2_TOWERS, SIZES, make_fg_clip_2, make_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, Siglip2Config, Siglip2Model

from fgseg.encoders.loading import load_encoder
from fgseg.similarity import unit
from fgseg.upsample.labels import label_map

RESULTS = Path(__file__).parent / "results" / "towers.json"
WORDS = ["a", "red", "green", "blue", "cup", "saucer", "table", "sky", "grass", "road"]
SCALARS = {"logit_scale", "logit_bias"}  # in no feature; their shapes differ
IMAGE_HW = (480, 640)  # pixels of the label maps
CLIP_CONFIG = {"hidden_act": "quick_gelu"}
FG_CLIP_2_PATCHES = ((16, 16), (12, 20))  # grids of the two images


def clip_features(theirs: CLIPModel, pixels: Tensor) -> dict[str, Tensor]:
    """Whole-image and dense features of transformers' CLIP."""
    tower = theirs.vision_model
    hidden = tower(pixels, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
    block = tower.encoder.layers[-1]
    x = hidden[-2][:, 1:]
    attention = block.self_attn
    x = x + attention.out_proj(attention.v_proj(block.layer_norm1(x)))
    x = x + block.mlp(block.layer_norm2(x))
    return {
        "image": theirs.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output,
        "value": theirs.visual_projection(tower.post_layernorm(x)),
        "vanilla": theirs.visual_projection(tower.post_layernorm(hidden[-1][:, 1:])),
    }


def clip(folder: Path) -> Iterator[tuple[str, Tensor, Tensor, tuple[int, int] | None]]:
    """(what, theirs, ours, grid of dense features) of an FG-CLIP 1."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    towers = {name: config[name] | CLIP_CONFIG for name in ("text_config", "vision_config")}
    theirs = CLIPModel(CLIPConfig(**towers, projection_dim=config["projection_dim"]))
    load(theirs, folder)
    ours = load_encoder(folder, device="cpu", dtype="float32").model
    side, patch = config["vision_config"]["image_size"], config["vision_config"]["patch_size"]
    for hw in ((side, side), (side - 4 * patch, side + 8 * patch)):
        pixels, grid = torch.randn(1, 3, *hw), (hw[0] // patch, hw[1] // patch)
        expected = clip_features(theirs, pixels)
        size = f"{hw[0]}x{hw[1]}"
        yield f"image {size}", expected["image"], ours.image_features(pixels), None
        for recipe in ("value", "vanilla"):
            dense = ours.dense_features(pixels, recipe=recipe).flatten(1, 2)
            yield f"dense {recipe} {size}", expected[recipe], dense, grid
    ids = torch.randint(300, 40_000, (len(WORDS), 77))
    ids[:, 20] = config["text_config"]["eos_token_id"]
    yield "text", theirs.get_text_features(ids).pooler_output, ours.text_features(ids, route="short"), None


def fg_clip_2(folder: Path) -> Iterator[tuple[str, Tensor, Tensor, tuple[int, int] | None]]:
    """(what, theirs, ours, grid of dense features) of an FG-CLIP 2; the dense head is torch's own attention."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    ours = load_encoder(folder, device="cpu", dtype="float32").model
    text = config["text_config"] | {"vocab_size": ours.config.vocabulary}
    text["projection_size"] = text["hidden_size"]
    theirs = Siglip2Model(Siglip2Config(text_config=text, vision_config=config["vision_config"]))
    load(theirs, folder)
    count = max(rows * columns for rows, columns in FG_CLIP_2_PATCHES)
    shapes = torch.tensor(FG_CLIP_2_PATCHES)
    mask = (torch.arange(count) < shapes.prod(1)[:, None]).long()
    inputs = {"pixel_values": torch.rand(2, count, 768) * 2 - 1, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    yield "image", theirs.get_image_features(**inputs).pooler_output, ours.image_features(**inputs), None
    hidden, head = theirs.vision_model(**inputs).last_hidden_state, ours.dense_feature_head
    for index, grid in enumerate(ours.dense_features(**inputs)):
        rows, columns = FG_CLIP_2_PATCHES[index]
        patches = hidden[index : index + 1, : rows * columns]
        attended = head.attention(patches, patches, patches, need_weights=False)[0]
        dense = attended + head.mlp(head.layernorm(attended))
        yield f"dense {rows}x{columns}", dense, grid.reshape(1, rows * columns, -1), (rows, columns)
    ids = torch.randint(3, 100, (len(WORDS), 64))
    yield "text", theirs.get_text_features(ids).pooler_output, ours.text_features(ids, route="short"), None


def load(theirs: nn.Module, folder: Path) -> None:
    """Load the tensors that a class of transformers has.

    Raises:
        RuntimeError: the folder lacks one of them.
    """
    tensors, names = load_file(folder / "model.safetensors"), set(dict(theirs.named_parameters())) - SCALARS
    found = theirs.load_state_dict({name: tensors[name] for name in names & tensors.keys()}, strict=False)
    if lacking := names & set(found.missing_keys):
        raise RuntimeError(f"{folder}: no tensor {sorted(lacking)[0]}")
    theirs.eval().requires_grad_(False)


def difference(theirs: Tensor, ours: Tensor, grid_hw: tuple[int, int] | None) -> dict[str, Any]:
    """How far two features of the same thing are apart."""
    figures: dict[str, Any] = {
        "largest_value": round(float(theirs.abs().max()), 3),
        "largest_difference": float((theirs - ours).abs().max()),
    }
    if grid_hw is not None:
        texts = unit(torch.randn(len(WORDS), theirs.shape[-1], generator=torch.Generator().manual_seed(1)))
        scores = [(unit(dense[0]) @ texts.T).T.reshape(-1, *grid_hw) for dense in (theirs, ours)]
        labels = [label_map(one, IMAGE_HW)[0] for one in scores]
        figures["largest_difference_of_cosines"] = float((scores[0] - scores[1]).abs().max())
        figures["equal_labels"] = float((labels[0] == labels[1]).float().mean())
    return figures


@torch.inference_mode()
def main() -> None:
    """Compare the models that are named and write each when it is finished."""
    known = [*(f"fg-clip-{size}" for size in SIZES), *(f"fg-clip2-{size}" for size in FG_CLIP_2_TOWERS)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(known), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report: dict[str, Any] = {"images": "noise", "dtype": "float32", "torch": torch.__version__, "models": {}}
    for name in options.models.split(","):
        torch.manual_seed(0)
        family, _, size = name.rpartition("-")
        make, compared = (make_model, clip) if family == "fg-clip" else (make_fg_clip_2, fg_clip_2)
        with tempfile.TemporaryDirectory() as folder:
            parts = compared(make(Path(folder), WORDS, size=size))
            report["models"][name] = {what: difference(*features) for what, *features in parts}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(report["models"][name]))


if __name__ == "__main__":
    main()
