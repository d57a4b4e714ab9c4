"""Shifts instead of attention, compared with a loop over patches and with the attention written from them."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F

from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import FgClipModel
from recipes.mini import recipe as mini, shifts, towers

SIDE = 8  # patches


@pytest.fixture(scope="module")
def model():
    """A narrow float32 FG-CLIP with all blocks and heads of OFFSETS, after `initialise`."""
    config = mini.full_config(mini.build_tokenizer())
    vision = {**config["vision_config"], "hidden_size": 120, "intermediate_size": 64, "image_size": 8 * SIDE}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = mini.new_model({**config, "vision_config": vision})
        shifts.initialise(made)
    return made


def pixels(count=3, side=8 * SIDE, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def looked_up(values, offset):
    """(B, 1 + SIDE**2, C) -> (B, SIDE**2, C): the value at an offset from each patch."""
    rows = []
    for y in range(SIDE):
        for x in range(SIDE):
            row, column = y + offset[0], x + offset[1]
            inside = 0 <= row < SIDE and 0 <= column < SIDE
            rows.append(values[:, 1 + row * SIDE + column] if inside else values[:, 0])
    return torch.stack(rows, 1)


@pytest.mark.parametrize("depth", range(len(shifts.OFFSETS)))
def test_each_head_passes_on_the_value_at_its_offset(model, depth):
    block = model.vision_model.encoder.layers[depth]
    x = torch.randn(2, 1 + SIDE**2, 120, generator=torch.Generator().manual_seed(depth))
    values = block.self_attn.v_proj(block.layer_norm1(x))
    mean = values.mean(1, keepdim=True)
    heads = []
    for head, offset in enumerate(shifts.OFFSETS[depth]):
        columns = slice(head * 40, head * 40 + 40)
        head_mean = mean[..., columns].expand(-1, SIDE**2, -1)
        heads.append(head_mean if offset is None else looked_up(values[..., columns], offset))
    shifted = torch.cat([mean, torch.cat(heads, -1)], 1)
    expected = block.add_mlp(x + block.self_attn.out_proj(shifted))
    torch.testing.assert_close(shifts._run_block(block, x, shifts.OFFSETS[depth], (SIDE, SIDE)), expected)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
    st.integers(0, 99),
)
def test_a_shift_is_a_window_of_the_grid_padded_with_the_class_token(grid_hw, offset, seed):
    values = torch.randn(1, 1 + grid_hw[0] * grid_hw[1], 2, generator=torch.Generator().manual_seed(seed))
    around = values[0, 0].expand(grid_hw[0] + 12, grid_hw[1] + 12, 2).clone()
    around[6:-6, 6:-6] = values[0, 1:].reshape(*grid_hw, 2)
    top, left = 6 + offset[0], 6 + offset[1]
    window = around[top : top + grid_hw[0], left : left + grid_hw[1]]
    assert torch.equal(shifts._value_at(values, offset, grid_hw)[0], window.flatten(0, 1))


def test_every_block_but_the_last_has_offsets():
    layers, heads = (mini.CONFIG["vision_config"][name] for name in ("num_hidden_layers", "num_attention_heads"))
    assert len(shifts.OFFSETS) == layers - 1
    assert {len(offsets) for offsets in shifts.OFFSETS} == {heads}


def trained_a_little(model):
    """A copy with random changes of all weights, as training might leave it."""
    moved = FgClipModel(ClipConfig.from_dict(mini.full_config(mini.build_tokenizer()) | vision_of(model)))
    moved.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if "position_embedding" not in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    shifts.reset_reserved(moved)
    return moved


def vision_of(model):
    config = mini.full_config(mini.build_tokenizer())
    width, mlp = model.vision_model.pre_layrnorm.weight.shape[0], 64
    return {
        "vision_config": {**config["vision_config"], "hidden_size": width, "intermediate_size": mlp, "image_size": 64}
    }


def test_attention_written_from_shifts_gives_the_same_features(model):
    moved = trained_a_little(model)
    plain = shifts.to_attention(moved, pixels())
    with torch.no_grad():
        for ours, theirs in zip(
            towers.shift_features(moved, pixels(seed=1)), towers.attention_features(plain, pixels(seed=1)), strict=True
        ):
            assert (ours * theirs).sum(-1).min() > 0.9999


def test_the_features_stay_the_same_with_bfloat16_weights(model):
    moved = trained_a_little(model)
    plain = shifts.to_attention(moved, pixels()).bfloat16().float()
    with torch.no_grad():
        (ours, _), (theirs, _) = (
            towers.shift_features(moved, pixels(seed=1)),
            towers.attention_features(plain, pixels(seed=1)),
        )
        assert F.cosine_similarity(ours, theirs, dim=-1).min() > 0.999


def test_to_attention_does_not_change_its_argument(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = shifts.to_attention(model, pixels())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert plain.vision_model.embeddings.position_embedding.weight.requires_grad
    assert not model.vision_model.embeddings.position_embedding.weight.requires_grad


def test_no_block_changes_the_reserved_units(model):
    moved = trained_a_little(model)
    vision = moved.vision_model
    with torch.no_grad():
        x, grid_hw = vision.embeddings(pixels())
        first = vision.pre_layrnorm(x)
        last = shifts.run_blocks(moved, first, grid_hw)
    assert torch.equal(first[..., : shifts.RESERVED], last[..., : shifts.RESERVED])
    assert not torch.equal(first[..., shifts.RESERVED :], last[..., shifts.RESERVED :])
    scaled = first[..., : shifts.RESERVED] - first[..., shifts.ZERO :][..., :1]
    table = vision.embeddings.position_embedding.weight[:, : shifts.RESERVED]
    assert F.cosine_similarity(scaled, table.expand_as(scaled), dim=-1).min() > 0.9999


def test_a_tower_with_more_blocks_than_offsets_is_refused(model, monkeypatch):
    monkeypatch.setattr(shifts, "OFFSETS", shifts.OFFSETS[:-1])
    with pytest.raises(ValueError, match="shorter"):
        shifts.run_blocks(model, torch.zeros(1, 1 + SIDE**2, 120), (SIDE, SIDE))
