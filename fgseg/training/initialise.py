"""The initial model of a training run: an FG-CLIP, a CLIP extended to one, or random weights."""

from typing import Literal, TypeVar

import torch
from torch import nn

from fgseg.encoders.checkpoint import Checkpoint, load_tensors, tensor_shapes
from fgseg.encoders.loading import family_of
from fgseg.encoders.networks.clip import KEPT_POSITIONS, ClipModel
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import LONG_POSITIONS, FgClipModel, stretch_positions
from fgseg.errors import WeightsError

__all__ = ["Temperatures", "initial_model", "parameter_groups", "stage_parameters"]

ModelT = TypeVar("ModelT", bound=ClipModel)
Temperatures = Literal["copy", "keep"]
_SHORT_POSITIONS = (LONG_POSITIONS + 3 * KEPT_POSITIONS) // 4  # 77, the length that stretches to the long table
_EMBEDDINGS = "text_model.embeddings"


def initial_model(
    checkpoint: Checkpoint, *, temperatures: Temperatures = "copy", scratch_seed: int | None = None
) -> FgClipModel:
    """The initial model of a run, in float32 on the CPU.

    Args:
        checkpoint: an FG-CLIP 1, or a CLIP, which `extend_clip` extends.
        temperatures: for the boxes and hard negatives of an FG-CLIP. `copy` copies `logit_scale`, as the published
            training does; `keep` takes those of the checkpoint. A CLIP has no such temperatures.
        scratch_seed: None loads the checkpoint's weights. A number seeds random weights of the checkpoint's sizes.

    Raises:
        WeightsError: the checkpoint is of neither family, or its tensors do not fit the model.
    """
    family = family_of(tensor_shapes(checkpoint))
    if family == "FG-CLIP 2":
        raise WeightsError(f"{checkpoint.folder}: FG-CLIP 2 cannot be trained here; give an FG-CLIP 1 or a CLIP")
    config = ClipConfig.from_dict(checkpoint.config)
    if scratch_seed is not None:
        model = extend_clip(random_clip(config, seed=scratch_seed))
    elif family == "CLIP":
        model = extend_clip(_loaded(ClipModel, config, checkpoint))
    else:
        model = _loaded(FgClipModel, config, checkpoint)
        if temperatures == "copy":
            for scale in (model.logit_scale_finegraind, model.logit_scale_hardneg):
                scale.data.copy_(model.logit_scale.data)
    return model.requires_grad_(True).train()


def _loaded(kind: type[ModelT], config: ClipConfig, checkpoint: Checkpoint) -> ModelT:
    with torch.device("meta"):
        model = kind(config)
    load_tensors(model, checkpoint, dtype=torch.float32, device=torch.device("cpu"))
    return model


def extend_clip(clip: ClipModel) -> FgClipModel:
    """An FG-CLIP with the weights of a CLIP, as the published training initialises it.

    The two long position tables are the short one, stretched. The projection of the long route is a copy of the short
    route's. The temperatures of boxes and hard negatives are copies of `logit_scale`.

    Raises:
        WeightsError: a position table that cannot be stretched to 248 rows.
    """
    tensors = clip.state_dict()
    short = tensors[f"{_EMBEDDINGS}.position_embedding.weight"]
    if len(short) != _SHORT_POSITIONS:
        raise WeightsError(
            f"position_embedding: expected {_SHORT_POSITIONS} rows to stretch to {LONG_POSITIONS}, got {len(short)}; "
            "give a CLIP of 77 tokens"
        )
    for table in ("position_embedding_res", "position_embedding_ori"):
        tensors[f"{_EMBEDDINGS}.{table}.weight"] = stretch_positions(short)
    tensors["text_filip_projection.weight"] = tensors["text_projection.weight"].clone()
    for name in ("logit_scale_finegraind", "logit_scale_hardneg"):
        tensors[name] = tensors["logit_scale"].clone()
    with torch.device("meta"):
        model = FgClipModel(clip.config)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model


@torch.no_grad()
def random_clip(config: ClipConfig, *, seed: int) -> ClipModel:
    """A CLIP with normal random weights, of the deviations in CLIP's code (github.com/openai/CLIP).

    Args:
        config: sizes of the model.
        seed: of the weights.
    """
    model = ClipModel(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif deviation := _deviation(name, config):
            parameter.normal_(0, deviation, generator=generator)
    return model


def _deviation(name: str, config: ClipConfig) -> float | None:
    """Standard deviation of a tensor's random values; None for LayerNorms and the temperature, which keep theirs."""
    tower = config.text if name.startswith("text") else config.vision
    narrow = tower.width**-0.5
    residual = narrow * (2 * tower.layers) ** -0.5
    ends = {
        "token_embedding.weight": 0.02,
        "patch_embedding.weight": (3 * config.patch**2) ** -0.5,
        "class_embedding": narrow,
        "position_embedding.weight": 0.01 if name.startswith("text") else narrow,
        "out_proj.weight": residual,
        "fc1.weight": (2 * tower.width) ** -0.5,
        "fc2.weight": residual,
        "_proj.weight": narrow,
        "_projection.weight": narrow,
    }
    return next((deviation for end, deviation in ends.items() if name.endswith(end)), None)


def stage_parameters(model: FgClipModel, stage: int) -> dict[str, nn.Parameter]:
    """The parameters that a stage trains, by name. Stage 1 leaves out the temperatures of boxes and hard negatives."""
    frozen = {"logit_scale_finegraind", "logit_scale_hardneg"} if stage == 1 else set()
    return {name: parameter for name, parameter in model.named_parameters() if name not in frozen}


def parameter_groups(parameters: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """AdamW's parameter groups, without weight decay for biases, LayerNorms and temperatures.

    The published training also decays its three temperatures, by a thousandth of the learning rate.
    """
    not_decayed = ("bias", "norm1.weight", "norm2.weight", "norm.weight")
    others = {name: p for name, p in parameters.items() if not p.ndim or name.endswith(not_decayed)}
    decayed = [p for name, p in parameters.items() if name not in others]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": list(others.values()), "weight_decay": 0.0}]
