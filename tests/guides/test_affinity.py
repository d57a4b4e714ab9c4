import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError, ShapeError
from fgseg.guides.affinity import patch_graph, patch_places, pixel_graph

few_examples = settings(max_examples=40, deadline=None)


def unit_rows(seed, count, width=6):
    rows = torch.from_numpy(np.random.RandomState(seed).normal(size=(count, width)).astype(np.float32))
    return torch.nn.functional.normalize(rows, dim=-1)


def normalised(weights):
    degree = weights.sum(1)
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1))
    return scale[:, None] * weights * scale


def patches_one_by_one(features, places, neighbours):
    """The normalised weights of a patch graph, (N, N), by the definition."""
    count = len(features)
    cosines = (features @ features.T).numpy()
    directed = np.zeros((count, count))
    for node in range(count):
        for other in np.argsort(-cosines[node])[:neighbours]:
            distance = np.linalg.norm(places[node] - places[other])
            directed[node, other] = max(cosines[node, other], 0) ** 3 * np.exp(-0.01 * distance)
    weights = directed + directed.T
    np.fill_diagonal(weights, 0)
    return normalised(weights)


def pixels_one_by_one(image):
    """The normalised weights of a pixel graph, (H * W, H * W), by the definition."""
    from skimage.color import rgb2lab

    lab = rgb2lab(image / 255) / [100, 128, 128]
    places = [(y, x) for y in range(image.shape[0]) for x in range(image.shape[1])]
    weights = np.zeros((len(places),) * 2)
    for one, (y, x) in enumerate(places):
        for other, (v, u) in enumerate(places):
            if one != other and abs(y - v) <= 6 and abs(x - u) <= 6:
                weights[one, other] = np.exp(-np.linalg.norm(lab[y, x] - lab[v, u]) / 0.01)
    return normalised(weights)


@few_examples
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 12), neighbours=st.integers(1, 14))
def test_the_patch_graph_is_its_definition(seed, count, neighbours):
    features = unit_rows(seed, count)
    places = torch.from_numpy(np.random.RandomState(seed).uniform(0, 200, (count, 2)))
    graph = patch_graph(features, places, neighbours=neighbours)
    np.testing.assert_allclose(
        graph.weights.toarray(), patches_one_by_one(features, places.numpy(), neighbours), atol=1e-6
    )


def test_two_nodes_that_choose_each_other_count_twice():
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, 0.4]]), dim=-1)
    graph = patch_graph(features, torch.zeros(3, 2), neighbours=2)
    first, last = (float(features[one] @ features[two]) ** 3 for one, two in ((0, 1), (2, 1)))
    degree = np.array([2 * first, 2 * first + last, last])  # 0 and 1 choose each other, and 2 chooses 1
    expected = [2 * first / np.sqrt(degree[0] * degree[1]), last / np.sqrt(degree[2] * degree[1])]
    np.testing.assert_allclose(graph.weights.toarray()[[0, 2], 1], expected, rtol=1e-6)


def test_patches_that_all_look_the_same_have_no_edge_to_themselves():
    graph = patch_graph(torch.ones(12, 1), torch.rand(12, 2), neighbours=3)
    assert graph.weights.diagonal().tolist() == [0] * 12
    assert graph.weights.nnz > 0


def test_opposite_patches_are_not_joined():
    graph = patch_graph(torch.tensor([[1.0, 0], [-1, 0]]), torch.zeros(2, 2))
    assert graph.weights.nnz == 0


def test_rows_of_cosines_that_are_computed_apart_give_the_same_graph(monkeypatch):
    features, places = unit_rows(3, 20), torch.zeros(20, 2)
    together = patch_graph(features, places, neighbours=5).weights.toarray()
    monkeypatch.setattr("fgseg.guides.affinity._COSINES_AT_ONCE", 60)
    np.testing.assert_allclose(patch_graph(features, places, neighbours=5).weights.toarray(), together, atol=1e-7)


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 9), (9, 1), (5, 8), (14, 3), (8, 15)])
def test_the_pixel_graph_is_its_definition(image_hw):
    rng = np.random.RandomState(sum(image_hw))
    image = np.repeat(np.repeat(rng.randint(90, 110, (2, 3, 3)), 8, 0), 8, 1)[: image_hw[0], : image_hw[1]]
    image = (image + rng.randint(0, 3, image.shape)).astype(np.uint8)
    maps = torch.from_numpy(rng.uniform(-1, 1, (2, *image_hw)).astype(np.float32))
    expected = (pixels_one_by_one(image) @ maps.flatten(1).numpy().T).T.reshape(maps.shape)
    np.testing.assert_allclose(pixel_graph(image).times(maps), expected, atol=1e-5)


def test_bands_of_rows_change_nothing(monkeypatch):
    image = np.random.RandomState(0).randint(0, 256, (30, 9, 3), dtype=np.uint8)
    maps = torch.rand(2, 30, 9)
    whole = pixel_graph(image).times(maps)
    monkeypatch.setattr("fgseg.guides.affinity._BAND", 4)
    np.testing.assert_allclose(pixel_graph(image).times(maps), whole, atol=1e-6)


def test_the_places_of_patches_of_windows_share_one_frame():
    places = patch_places([(2, 2), (2, 2)], [(0, 0, 28, 28), (14, 28, 42, 56)])
    assert places.tolist() == [[8, 8], [8, 24], [24, 8], [24, 24], [40, 24], [40, 40], [56, 24], [56, 40]]


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"features: expected an array of shape \(N, C\)"):
        patch_graph(torch.zeros(3), torch.zeros(3, 2))
    with pytest.raises(ShapeError, match=r"places_yx: expected an array of shape \(3, 2\), .*a row and a column"):
        patch_graph(unit_rows(0, 3), torch.zeros(2, 2))
    with pytest.raises(OptionError, match="neighbours: expected"):
        patch_graph(unit_rows(0, 3), torch.zeros(3, 2), neighbours=0)
    with pytest.raises(ShapeError, match="image: expected"):
        pixel_graph(np.zeros((4, 4), np.uint8))
