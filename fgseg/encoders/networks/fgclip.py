"""FG-CLIP 1: CLIP with a long text route and region training (arXiv:2505.05071).

The dense features are CLIP's with the `value` recipe, which is what its region training went through.
"""

import math

import torch
from torch import Tensor, nn

from fgseg.encoders.networks.blocks import Embedding, Linear
from fgseg.encoders.networks.clip import ClipModel, TextEmbeddings, check_route
from fgseg.encoders.networks.config import ClipConfig

__all__ = ["KEPT_POSITIONS", "LONG_POSITIONS", "FgClipModel", "stretch_positions"]

LONG_POSITIONS = 248
KEPT_POSITIONS = 20  # rows whose meaning the stretching leaves alone (Long-CLIP, arXiv:2403.15378)


class FgClipTextEmbeddings(TextEmbeddings):
    """Adds the two tables of the long route: rows 0-19 of `ori`, rows 20-247 of `res`."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.position_embedding_res = Embedding(LONG_POSITIONS, config.text.width)
        self.position_embedding_ori = Embedding(LONG_POSITIONS, config.text.width)

    def positions(self, route: str) -> Tensor:
        """(77 or 248, width): the position table of a route."""
        check_route(route, FgClipModel.routes)
        if route != "long":
            return self.position_embedding.weight
        kept = self.position_embedding_ori.weight[:KEPT_POSITIONS]
        return torch.cat([kept, self.position_embedding_res.weight[KEPT_POSITIONS:]])


class FgClipModel(ClipModel):
    """FG-CLIP 1 on raw tensors, un-normalised. `region` texts take the short route, as its region training did."""

    routes = ("region", "short", "long")

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.text_filip_projection = Linear(config.text.width, config.width, bias=False)
        self.logit_scale_finegraind = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # the published spelling
        self.logit_scale_hardneg = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def _text_embeddings(self, config: ClipConfig) -> TextEmbeddings:
        return FgClipTextEmbeddings(config)

    def _projection(self, route: str) -> Linear:
        return self.text_filip_projection if route == "long" else self.text_projection

    def region_logit_scale(self) -> Tensor:
        """Scalar: what region cosines are multiplied by before a softmax."""
        return self.logit_scale_finegraind.exp()


def stretch_positions(table: Tensor) -> Tensor:
    """The 248-row position table that FG-CLIP's training starts from.

    Rows 0-19 are copied; the other 57 are stretched four times by linear interpolation, the last step continued.

    Args:
        table: (77, width) short position table.

    Returns:
        (248, width), same dtype and device.

    Examples:
        >>> rows = stretch_positions(torch.arange(77.0)[:, None])[:, 0]
        >>> rows[[0, 19, 20, 21, 24, 247]].tolist()
        [0.0, 19.0, 20.0, 20.25, 21.0, 76.75]
    """
    stretched = table[KEPT_POSITIONS:]
    step = torch.diff(stretched, dim=0)
    step = torch.cat([step, step[-1:]])
    quarters = torch.arange(4, device=table.device, dtype=table.dtype)[None, :, None] / 4
    between = stretched[:, None] + quarters * step[:, None]
    return torch.cat([table[:KEPT_POSITIONS], between.flatten(0, 1)])
