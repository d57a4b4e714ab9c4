"""Our towers against transformers' CLIP and SigLIP 2 on random weights, through real checkpoints on disk.

transformers takes seconds to import, so every test that needs it is in this file.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FG_CLIP_2, model_tensors, saved_model
from transformers import CLIPConfig, CLIPModel, Siglip2Config, Siglip2Model
from transformers.models.clip import CLIPTokenizer

from fgseg.encoders.loading import load_encoder
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import ModelNotFoundError

CLOSE = {"atol": 1e-5, "rtol": 0}  # float32, 3 layers, features of about 3
END = 7
CLIP_TEXT = {
    **{"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 40},
    **{"vocab_size": 60, "max_position_embeddings": 20, "eos_token_id": END, "bos_token_id": 1, "pad_token_id": END},
}
CLIP_VISION = {
    **{"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 48},
    **{"image_size": 40, "patch_size": 8},
}
SIGLIP_TEXT = {
    **{"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64},
    **{"vocab_size": 90, "max_position_embeddings": 64, "projection_size": 32},
}
SIGLIP_VISION = {
    **{"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 64},
    **{"num_patches": 64, "patch_size": 16},
}


def randomised(model, seed):
    """The model with random weights, also where the initial weights 0 or 1 would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.25, generator=generator)
    return model.eval()


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def clips(request, tmp_path_factory):
    """(transformers' CLIP, ours) on the same weights, saved by transformers' own save_pretrained."""
    act = {"hidden_act": request.param}
    config = CLIPConfig(text_config={**CLIP_TEXT, **act}, vision_config={**CLIP_VISION, **act}, projection_dim=20)
    theirs = randomised(CLIPModel(config), seed=3)
    folder = tmp_path_factory.mktemp("clip")
    theirs.save_pretrained(folder)
    return theirs, load_encoder(str(folder), device="cpu", dtype="float32")


@torch.inference_mode()
def test_clip_image_features_are_those_of_transformers(clips):
    theirs, ours = clips
    pixels = torch.from_numpy(np.random.RandomState(1).normal(size=(2, 3, 40, 40)).astype(np.float32))
    expected = theirs.get_image_features(pixels).pooler_output
    np.testing.assert_allclose(ours.model.image_features(pixels), expected, **CLOSE)


@torch.inference_mode()
def test_clip_image_features_on_another_grid_are_those_of_transformers(clips):
    theirs, ours = clips
    pixels = torch.from_numpy(np.random.RandomState(2).normal(size=(1, 3, 64, 24)).astype(np.float32))
    expected = theirs.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
    np.testing.assert_allclose(ours.model.image_features(pixels), expected, **CLOSE)


@torch.inference_mode()
def test_clip_vanilla_dense_features_are_the_projected_last_hidden_state_of_transformers(clips):
    theirs, ours = clips
    pixels = torch.from_numpy(np.random.RandomState(4).normal(size=(1, 3, 40, 40)).astype(np.float32))
    tower = theirs.vision_model
    patches = tower.post_layernorm(tower(pixels).last_hidden_state[:, 1:])
    expected = theirs.visual_projection(patches).reshape(1, 5, 5, -1)
    np.testing.assert_allclose(ours.model.dense_features(pixels, recipe="vanilla"), expected, **CLOSE)


@torch.inference_mode()
def test_clip_text_features_are_those_of_transformers_at_the_first_end_token(clips):
    theirs, ours = clips
    ids = torch.from_numpy(np.random.RandomState(5).randint(8, 60, (4, 20)))
    for row, end in enumerate((1, 6, 12, 19)):
        ids[row, end] = END
    ids[1, 15] = END  # a second end token changes nothing
    expected = theirs.get_text_features(ids).pooler_output
    np.testing.assert_allclose(ours.model.text_features(ids), expected, **CLOSE)


@pytest.fixture(scope="module")
def siglips(tmp_path_factory):
    """(transformers' SigLIP 2, our FG-CLIP 2 with its towers and the golden model's heads)."""
    config = Siglip2Config(text_config=SIGLIP_TEXT, vision_config=SIGLIP_VISION)
    theirs = randomised(Siglip2Model(config), seed=6)
    folder = tmp_path_factory.mktemp("siglip")
    theirs.save_pretrained(folder)
    tensors = model_tensors(FG_CLIP_2) | load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors")
    return theirs, load_encoder(str(folder), device="cpu", dtype="float32")


@torch.inference_mode()
def test_siglip_2_image_features_of_padded_images_are_those_of_transformers(siglips):
    theirs, ours = siglips
    pixels = torch.from_numpy(np.random.RandomState(7).uniform(-1, 1, (2, 40, 768)).astype(np.float32))
    shapes = torch.tensor([[5, 7], [10, 4]])
    mask = torch.ones(2, 40, dtype=torch.int64)
    mask[0, 35:] = 0
    inputs = {"pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    expected = theirs.get_image_features(**inputs).pooler_output
    np.testing.assert_allclose(ours.model.image_features(**inputs), expected, **CLOSE)
    hidden = theirs.vision_model(**inputs).last_hidden_state
    head, width = ours.model.dense_feature_head, hidden.shape[-1]
    for index, grid in enumerate(ours.model.dense_features(**inputs)):
        patches = hidden[index : index + 1, : shapes[index].prod()]
        attended = head.attention(patches, patches, patches, need_weights=False)[0]
        dense = attended + head.mlp(head.layernorm(attended))
        np.testing.assert_allclose(grid.reshape(1, -1, width), dense, **CLOSE)


@torch.inference_mode()
def test_siglip_2_text_features_are_those_of_transformers(siglips):
    theirs, ours = siglips
    ids = torch.from_numpy(np.random.RandomState(8).randint(0, 90, (3, 64)))
    expected = theirs.get_text_features(ids).pooler_output
    np.testing.assert_allclose(ours.model.text_features(ids, route="short"), expected, **CLOSE)


def test_a_folder_with_only_vocab_and_merges_tokenizes_as_transformers_clip_does(tmp_path):
    vocabulary = ["<|startoftext|>", "<|endoftext|>", "c", "u", "p", "r</w>", "e", "p</w>", "cu", "cup</w>", "d</w>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc u\ncu p</w>\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    texts = ["cup", "CUP  cup", "cup e cup"]
    ids = Tokenizer(tmp_path).encode(texts)
    assert ids[0] == [0, 9, 1]
    assert ids == CLIPTokenizer.from_pretrained(tmp_path)(texts)["input_ids"]


def test_a_golden_model_loads_without_running_the_code_that_its_folder_names(tmp_path):
    config = {
        "model_type": "evil",
        "auto_map": {name: "code_evil.Evil" for name in ("AutoConfig", "AutoModel", "AutoTokenizer")},
        "trust_remote_code": True,
        **{"text_config": SIGLIP_TEXT | {"vocab_size": 1000}, "vision_config": SIGLIP_VISION},
    }
    folder = saved_model(tmp_path / "model", model_tensors(FG_CLIP_2), config)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Evil: pass\n"
    (tmp_path / "model" / "code_evil.py").write_text(code)
    (tmp_path / "model" / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"auto_map": config["auto_map"]}))
    encoder = load_encoder(folder, device="cpu", dtype="float32")
    encoder.encode_images([np.zeros((32, 32, 3), np.uint8)])
    with pytest.raises(ModelNotFoundError, match="its tokenizer cannot be read"):
        encoder.encode_texts(["cup"])
    assert not (tmp_path / "ran").exists()
