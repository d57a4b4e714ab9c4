"""A service of the web page with the tiny model."""

import pytest

import fgseg
from fgseg.web.examples import examples
from fgseg.web.limits import Limits
from fgseg.web.service import SegmentationService


@pytest.fixture
def seg(tiny_model):
    return fgseg.load(tiny_model)


@pytest.fixture
def service(seg, tmp_path):
    made = SegmentationService(seg, Limits(), tmp_path, examples())
    yield made
    made.queue.close()


@pytest.fixture
def encodings(service, monkeypatch):
    """A list that grows by one each time an image is encoded."""
    encoder, counted = service.segmenter.encoder, []
    encode = encoder.encode_images

    def counting(*args, **kwargs):
        counted.append(1)
        return encode(*args, **kwargs)

    monkeypatch.setattr(encoder, "encode_images", counting)
    return counted
