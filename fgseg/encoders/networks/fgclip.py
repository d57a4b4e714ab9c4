"""FG-CLIP 1: CLIP with a long text route and region training (arXiv:2505.05071).

The dense features are CLIP's with the `value` recipe, which FG-CLIP's region training used.
"""

import math

import torch
from torch import Tensor, nn

from fgseg.encoders.networks.blocks import Linear
from fgseg.encoders.networks.clip import KEPT_POSITIONS, ClipModel
from fgseg.encoders.networks.config import ClipConfig

__all__ = ["LONG_POSITIONS", "FgClipModel", "stretch_positions"]

LONG_POSITIONS = 248


class FgClipModel(ClipModel):
    """FG-CLIP 1 on raw tensors, un-normalised. `region` texts take the short route, as in its region training."""

    routes = ("region", "short", "long")
    long_positions = LONG_POSITIONS
    whole_when_guided = True  # as in region training

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.text_filip_projection = Linear(config.text.width, config.width, bias=False)
        self.logit_scale_finegraind = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # the published spelling
        self.logit_scale_hardneg = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def _projection(self, route: str) -> Linear:
        return self.text_filip_projection if route == "long" else self.text_projection

    def region_logit_scale(self) -> Tensor:
        """Scalar factor on region cosines before a softmax."""
        return self.logit_scale_finegraind.exp()


def stretch_positions(table: Tensor) -> Tensor:
    """The position table of 248 rows with which FG-CLIP's training starts.

    Rows 0 to 19 are copied. The other 57 are stretched four times by linear interpolation; the last step is repeated.

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
