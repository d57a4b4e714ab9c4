"""A small model and a small labelled folder."""

import pytest
from evaluation_data import color_folder

import fgseg
from fgseg.datasets.opening import open_dataset
from fgseg.encoders.loading import load_encoder


@pytest.fixture(scope="module")
def seg(tiny_model):
    return fgseg.Segmenter(load_encoder(tiny_model, device="cpu", dtype="float32"))


@pytest.fixture
def colors(tmp_path):
    return open_dataset(color_folder(tmp_path / "colors"))
