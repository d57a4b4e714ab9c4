"""What training starts from: an FG-CLIP, a CLIP grown into one, or first values drawn for their sizes."""

from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from fgseg._checks import check_choice
from fgseg.encoders.checkpoint import Checkpoint, load_tensors, tensor_shapes
from fgseg.encoders.loading import family_of
from fgseg.encoders.networks.clip import KEPT_POSITIONS, ClipModel
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import LONG_POSITIONS, FgClipModel, stretch_positions
from fgseg.errors import WeightsError

__all__ = [
    "TEMPERATURES",
    "Temperatures",
    "decay_groups",
    "grow",
    "initialised",
    "parameters_of_stage",
    "start_model",
]

ModelT = TypeVar("ModelT", bound=ClipModel)
Temperatures = Literal["copy", "keep"]
TEMPERATURES: tuple[str, ...] = get_args(Temperatures)
_SHORT_POSITIONS = (LONG_POSITIONS + 3 * KEPT_POSITIONS) // 4  # 77: what stretches to the long table
_EMBEDDINGS = "text_model.embeddings"


def start_model(
    checkpoint: Checkpoint, *, temperatures: Temperatures = "copy", scratch_seed: int | None = None
) -> FgClipModel:
    """The model that training starts from, in float32 on the CPU.

    Args:
        checkpoint: an FG-CLIP 1, taken as it is; or a CLIP, grown by `grow`.
        temperatures: of an FG-CLIP's regions and hard negatives: `copy` starts them as copies of `logit_scale`, as
            the published training does; `keep` goes on from those of the checkpoint. A CLIP has none to keep.
        scratch_seed: None takes the checkpoint's weights; a number takes only its sizes, and draws first values.

    Raises:
        WeightsError: neither of the two families, or tensors that are not the model's.
        OptionError: an unknown word for `temperatures`.
    """
    check_choice("temperatures", temperatures, TEMPERATURES)
    family = family_of(tensor_shapes(checkpoint))
    if family == "FG-CLIP 2":
        raise WeightsError(
            f"{checkpoint.folder}: is an FG-CLIP 2, whose training is not built here; start from FG-CLIP 1 or CLIP"
        )
    config = ClipConfig.from_dict(checkpoint.config)
    if scratch_seed is not None:
        model = grow(initialised(config, seed=scratch_seed))
    elif family == "CLIP":
        model = grow(_loaded(ClipModel, config, checkpoint))
    else:
        model = _loaded(FgClipModel, config, checkpoint)
        if temperatures == "copy":
            _copy_temperature(model)
    return model.requires_grad_(True).train()


def _loaded(kind: type[ModelT], config: ClipConfig, checkpoint: Checkpoint) -> ModelT:
    with torch.device("meta"):
        model = kind(config)
    load_tensors(model, checkpoint, dtype=torch.float32, device=torch.device("cpu"))
    return model


def grow(clip: ClipModel) -> FgClipModel:
    """A CLIP with what FG-CLIP adds, as the published training starts it.

    The two long position tables are the short one stretched, the long route's projection is a copy of the short
    route's, the two temperatures of regions are copies of `logit_scale`.

    Raises:
        WeightsError: a position table that does not stretch to 248 rows.
    """
    tensors = clip.state_dict()
    short = tensors[f"{_EMBEDDINGS}.position_embedding.weight"]
    if len(short) != _SHORT_POSITIONS:
        raise WeightsError(
            f"position_embedding: expected {_SHORT_POSITIONS} rows to stretch to {LONG_POSITIONS}, got {len(short)}; "
            "FG-CLIP starts from a CLIP of 77 tokens"
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
def _copy_temperature(model: FgClipModel) -> None:
    for scale in (model.logit_scale_finegraind, model.logit_scale_hardneg):
        scale.copy_(model.logit_scale)


@torch.no_grad()
def initialised(config: ClipConfig, *, seed: int) -> ClipModel:
    """A CLIP with first values: normal, with the deviations of the CLIP paper's code (github.com/openai/CLIP).

    Args:
        config: its sizes.
        seed: of the values; the same seed gives the same ones.
    """
    model = ClipModel(config)
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, deviation: float) -> None:
        tensor.normal_(0, deviation, generator=generator)

    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif deviation := _deviation(name, config):
            draw(parameter, deviation)
    return model


def _deviation(name: str, config: ClipConfig) -> float | None:
    """Of a tensor's first values; None where the module's own stand: LayerNorm's ones, the temperature."""
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


def parameters_of_stage(model: FgClipModel, stage: int) -> dict[str, nn.Parameter]:
    """The parameters that a stage trains, by name: the two temperatures of regions rest in the first."""
    resting = {"logit_scale_finegraind", "logit_scale_hardneg"} if stage == 1 else set()
    return {name: parameter for name, parameter in model.named_parameters() if name not in resting}


def decay_groups(parameters: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: biases, LayerNorms and temperatures are not decayed.

    The published training decays its three temperatures too, by a thousandth of the learning rate.
    """
    rest = ("bias", "norm1.weight", "norm2.weight", "norm.weight")
    others = {name: p for name, p in parameters.items() if not p.ndim or name.endswith(rest)}
    decayed = [p for name, p in parameters.items() if name not in others]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": list(others.values()), "weight_decay": 0.0}]
