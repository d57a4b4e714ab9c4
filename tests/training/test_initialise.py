import pytest
import torch
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, FG_CLIP_14, GOLDEN, model_config, model_tensors, saved_model

from fgseg.encoders.checkpoint import find_checkpoint
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.clip import KEPT_POSITIONS
from fgseg.errors import WeightsError
from fgseg.training.initialise import initial_model, parameter_groups, stage_parameters

ADDED = ("text_filip_projection.weight", "logit_scale_finegraind", "logit_scale_hardneg")
ORI, RES = (f"text_model.embeddings.position_embedding_{table}.weight" for table in ("ori", "res"))


def plain_clip(folder, name):
    """A golden FG-CLIP without what FG-CLIP adds: the CLIP it could have been trained from."""
    tensors = {key: tensor for key, tensor in model_tensors(name).items() if key not in (*ADDED, ORI, RES)}
    return find_checkpoint(saved_model(folder, tensors, model_config(name)))


@pytest.mark.parametrize("name", [FG_CLIP, FG_CLIP_14])
def test_a_clip_gets_the_published_position_tables(tmp_path, name):
    """The golden folder's `ori` table is what the published code stretched from its short one."""
    state = initial_model(plain_clip(tmp_path, name)).state_dict()
    published = model_tensors(name)[ORI]
    torch.testing.assert_close(state[ORI], published, rtol=0, atol=1e-7)  # float32, one multiplication more
    torch.testing.assert_close(state[RES], published, rtol=0, atol=1e-7)
    assert torch.equal(state[ORI][:KEPT_POSITIONS], published[:KEPT_POSITIONS])


def test_a_clip_gets_copies_of_its_projection_and_temperature_and_keeps_the_rest(tmp_path):
    tensors = model_tensors(FG_CLIP)
    state = initial_model(plain_clip(tmp_path, FG_CLIP)).state_dict()
    assert set(state) == set(tensors)
    assert torch.equal(state["text_filip_projection.weight"], tensors["text_projection.weight"])
    for name in ("logit_scale_finegraind", "logit_scale_hardneg"):
        assert torch.equal(state[name], tensors["logit_scale"])
    for name in set(tensors) - {*ADDED, ORI, RES}:
        assert torch.equal(state[name], tensors[name]), name


def test_copied_parameters_are_trained_separately(tmp_path):
    model = initial_model(plain_clip(tmp_path, FG_CLIP))
    places = {parameter.data_ptr() for parameter in model.parameters()}
    assert len(places) == len(list(model.parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_fg_clip_keeps_its_weights_except_two_temperatures(tmp_path):
    tensors = model_tensors(FG_CLIP) | {"logit_scale_finegraind": torch.tensor(3.5)}
    checkpoint = find_checkpoint(saved_model(tmp_path, tensors, model_config(FG_CLIP)))
    kept = initial_model(checkpoint, temperatures="keep").state_dict()
    assert all(torch.equal(kept[name], tensors[name]) for name in tensors)
    copied = initial_model(checkpoint).state_dict()
    assert copied["logit_scale_finegraind"] == tensors["logit_scale"]
    assert all(torch.equal(copied[name], tensors[name]) for name in tensors if name != "logit_scale_finegraind")


def test_random_weights_depend_on_the_seed_and_not_on_the_checkpoint():
    checkpoint = find_checkpoint(str(GOLDEN / FG_CLIP))
    one, same, other = (initial_model(checkpoint, scratch_seed=seed).state_dict() for seed in (1, 1, 2))
    name = "visual_projection.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], model_tensors(FG_CLIP)[name])
    assert all(tensor.isfinite().all() for tensor in one.values())
    assert one["logit_scale"].exp() == pytest.approx(1 / 0.07, rel=1e-6)
    assert one["text_model.embeddings.token_embedding.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert (one["vision_model.encoder.layers.0.layer_norm1.weight"] == 1).all()
    for number in (0, 1):
        fc2 = one[f"vision_model.encoder.layers.{number}.mlp.fc2.weight"]
        assert fc2.std() == pytest.approx(48**-0.5 * 8**-0.5, rel=0.1)  # width 48, 4 layers


def test_random_weights_give_features_of_moderate_size(tiny_model):
    encoder = load_encoder(tiny_model, dtype="float32", device="cpu")
    model = initial_model(find_checkpoint(tiny_model), scratch_seed=0)
    with torch.no_grad():
        features = model.image_features(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
    assert features.shape == (4, encoder.model.config.width)
    assert 0.1 < float(features.std()) < 10


def test_a_clip_with_other_positions_and_an_fg_clip_2_are_refused(tmp_path):
    tensors, name = model_tensors(CLIP), "text_model.embeddings.position_embedding.weight"
    config = model_config(CLIP)
    config["text_config"] = {**config["text_config"], "max_position_embeddings": 40}
    short = find_checkpoint(saved_model(tmp_path, tensors | {name: tensors[name][:40].clone()}, config))
    with pytest.raises(WeightsError, match="position_embedding: expected 77 rows to stretch to 248, got 40"):
        initial_model(short)
    with pytest.raises(WeightsError, match="FG-CLIP 2 cannot be trained here; give an FG-CLIP 1 or a CLIP"):
        initial_model(find_checkpoint(str(GOLDEN / FG_CLIP_2)))


def test_biases_layer_norms_and_temperatures_are_not_decayed():
    model = initial_model(find_checkpoint(str(GOLDEN / FG_CLIP)))
    named = dict(model.named_parameters())
    decayed, others = parameter_groups(named, 0.25)
    names = {id(parameter): name for name, parameter in named.items()}
    left_out = {names[id(parameter)] for parameter in others["params"]}
    norms = {f"{m}.weight" for m, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    biases = {name for name in named if name.endswith(".bias")}
    assert left_out == norms | biases | {"logit_scale", "logit_scale_finegraind", "logit_scale_hardneg"}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.25, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(named)


def test_stage_1_does_not_train_the_temperatures_of_boxes():
    model = initial_model(find_checkpoint(str(GOLDEN / FG_CLIP)))
    assert set(stage_parameters(model, 2)) - set(stage_parameters(model, 1)) == {
        "logit_scale_finegraind",
        "logit_scale_hardneg",
    }
