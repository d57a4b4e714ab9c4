"""What a user or another package sets for the whole process changes no result."""

import contextlib
import locale

import numpy as np
import pytest
import torch

import fgseg


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def comma_locale():
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "tr_TR.UTF-8"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            break
    else:
        pytest.skip("no locale with a decimal comma is installed")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


STATES = {
    "strict numpy, doubles, one thread": [
        lambda: np.errstate(all="raise"), lambda: default_dtype(torch.float64), lambda: threads(1), torch.enable_grad,
    ],
    "halves, autocast": [lambda: default_dtype(torch.bfloat16), lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
    "another locale": [comma_locale],
    "another device, no gradients": [
        lambda: default_device("meta"), torch.inference_mode, lambda: np.printoptions(legacy="1.13"),
    ],
}  # fmt: skip

PICTURE = np.random.RandomState(0).randint(0, 256, (3, 4, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)


def everything(folder):
    """What the main routes give, with a model that is loaded here."""
    seg = fgseg.load()
    found = {}
    for resolution, mode in (("squash", "exclusive"), ("keep", "independent"), ("slide:90/60/30", "exclusive")):
        result = seg.segment(PICTURE, ["red", "blue"], resolution=resolution, mode=mode)
        found[f"labels {resolution}"] = result.labels
        found[f"regions {resolution}"] = np.array([region.box_xyxy for region in result.regions])
    result.save(folder, formats=["labels", "overlay", "regions", "coco", "heatmaps"])
    result = seg.segment(PICTURE, ["red"], threshold="auto", refine="pamr", background=["green"])
    found["pamr"] = result.scores["red"]
    how = {"propagate": "both", "region_map": "superpixels", "vote": True, "threshold": 0.1}
    found["propagated, voted"] = seg.segment(PICTURE, ["red", "blue"], background=["green"], **how).labels
    found["heatmaps"] = seg.heatmaps(PICTURE, ["red"])["red"]
    found["boxes"] = seg.score_boxes(PICTURE, [(0, 0, 50, 40)], ["red", "blue"]).cosine
    found["rank"] = seg.rank([PICTURE], ["a red square", "a blue square"]).cosine
    found["similarity"] = seg.similarity(PICTURE, ["red"])
    for path in sorted(folder.rglob("*.csv")) + sorted(folder.rglob("*.png")):
        found[str(path.relative_to(folder))] = np.frombuffer(path.read_bytes(), np.uint8)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_the_process_changes_no_result(name, expected, tmp_path):
    with contextlib.ExitStack() as stack:
        for state in STATES[name]:
            stack.enter_context(state())
        found = everything(tmp_path)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
        assert found[key].dtype == value.dtype
