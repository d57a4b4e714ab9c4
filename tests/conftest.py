"""Fixtures that several test files use."""

import pytest
import torch


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random FG-CLIP 1 with about ten thousand parameters and the vocabulary of the embedded model."""
    from recipes.mini.recipe import build_tokenizer, full_config, new_model, save

    tokenizer = build_tokenizer()
    config = full_config(tokenizer)
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    config |= {
        "projection_dim": 8,
        "text_config": config["text_config"] | tower,
        "vision_config": {**tower, "image_size": 32, "patch_size": 8},
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save(new_model(config), tokenizer, config, folder)
    return str(folder)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="session", autouse=True)
def _text_cache_of_the_tests(tmp_path_factory):
    """A text cache for the tests, so that they do not use that of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGSEG_CACHE", str(tmp_path_factory.mktemp("text_cache")))
        yield
