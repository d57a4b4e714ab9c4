from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, IMAGE, loaded, with_tokenizer

import fgseg
from fgseg.errors import ShapeError
from fgseg.guides.affinity import PixelGraph, patch_graph, patch_places, pixel_graph
from fgseg.guides.propagation import PROPAGATIONS, Propagation, solve
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import stitch_chunks
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.similarity import cosines, unit
from fgseg.types import DenseFeatures
from fgseg.upsample.maps import upsample_maps

GOLDEN = Path(__file__).parents[1] / "data" / "guides" / "lposs.safetensors"


@cache
def golden(case):
    tensors = load_file(GOLDEN)
    return {name.removeprefix(f"{case}."): value for name, value in tensors.items() if name.startswith(f"{case}.")}


def unit_rows(seed, *shape):
    return unit(torch.from_numpy(np.random.RandomState(seed).normal(size=shape).astype(np.float32)))


# --- the published method


@pytest.mark.parametrize("case", ["grid", "grid_p8"])
def test_patches_are_solved_as_published(case):
    data = golden(case)
    neighbours, patch = data["k_patch"].tolist()
    rows, columns, width = data["guide"].shape
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) * patch + patch // 2
    graph = patch_graph(data["guide"].reshape(-1, width), places, neighbours=neighbours)
    solved = solve(graph, data["scores"].flatten(1).double()).reshape_as(data["refined"])
    np.testing.assert_allclose(solved, data["refined"], atol=1e-5)  # values to 7


def test_the_patches_of_all_windows_are_solved_together_as_published():
    data = golden("slide")
    height, width, crop, _, _, neighbours, classes = data["settings"].tolist()
    boxes = [(left, top, left + crop, top + crop) for top, left in data["corners"].tolist()]
    boxes = [(left, top, min(right, width), min(bottom, height)) for left, top, right, bottom in boxes]
    places = patch_places([tuple(one.shape[:2]) for one in data["guide"]], boxes)
    graph = patch_graph(data["guide"].flatten(0, 2), places, neighbours=neighbours)
    scores = cosines(unit(data["dense"]).flatten(0, 1), data["text"])
    solved = solve(graph, scores.flatten(1).double()).float()
    windows = list(solved.reshape(len(solved), *data["dense"].shape[:3]).unbind(1))
    canvas = torch.cat(list(stitch_chunks(windows, boxes, (height, width))))
    background = len(canvas) - classes + 1
    canvas = torch.cat([canvas[:background].amax(0, keepdim=True), canvas[background:]])
    drawn = torch.stack(list(upsample_maps(canvas, tuple(data["refined"].shape[1:]))))
    np.testing.assert_allclose(drawn, data["refined"], atol=2e-5)


def test_pixels_are_solved_as_published():
    data = golden("pixels")
    graph = pixel_graph(data["image"].numpy())
    # float32 in place of float64 costs up to 2e-5 of values to 7: the rounding of the weights, not of the solver.
    np.testing.assert_allclose(solve(graph, data["scores"]), data["refined"], atol=5e-5)
    exact = PixelGraph(graph.weights.double())
    np.testing.assert_allclose(solve(exact, data["scores"].double()), data["refined"], atol=5e-5)


def test_the_number_of_steps_is_the_published_one(monkeypatch):
    data = golden("pixels")
    monkeypatch.setattr("fgseg.guides.propagation.STEPS", 9)
    assert (solve(pixel_graph(data["image"].numpy()), data["scores"]) - data["refined"]).abs().max() > 0.05


# --- what this package adds: the range of a cosine


def test_the_class_with_the_largest_score_is_the_published_one():
    data = golden("pixels")
    found = Propagation(pixel_graph(data["image"].numpy())).propagated(data["scores"])
    top = data["refined"].topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-4
    assert clear.float().mean() > 0.9
    np.testing.assert_array_equal(found.argmax(0)[clear], data["refined"].argmax(0)[clear])
    assert data["refined"].max() > 1
    assert float(found.max()) <= float(data["scores"].max())


def some_graph(kind, seed):
    rng = np.random.RandomState(seed)
    if kind == "pixels":
        return pixel_graph(rng.randint(0, 256, (5, 7, 3), dtype=np.uint8))
    return patch_graph(unit_rows(seed, 15, 4), torch.from_numpy(rng.uniform(0, 90, (15, 2))), neighbours=6)


kinds = st.sampled_from(["patches", "pixels"])
few_examples = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31 - 1)


@few_examples
@given(kind=kinds, seed=seeds, level=st.floats(-1, 1, width=32))
def test_a_score_that_is_the_same_everywhere_stays(kind, seed, level):
    graph = some_graph(kind, seed)
    found = Propagation(graph).propagated(torch.full_like(graph.ones, level, dtype=torch.float32))
    np.testing.assert_allclose(found, level, atol=2e-5)


@few_examples
@given(kind=kinds, seed=seeds)
def test_words_do_not_depend_on_each_other_and_may_be_permuted(kind, seed):
    propagation = Propagation(some_graph(kind, seed))
    scores = torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, (3, *propagation.graph.ones.shape[1:])))
    scores = scores.float()
    found = propagation.propagated(scores)
    np.testing.assert_allclose(propagation.propagated(scores[[2, 0, 1]]), found[[2, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(propagation.propagated(scores[1:2]), found[1:2], atol=1e-6)
    assert found.abs().max() <= 1
    assert found.dtype == torch.float32


def test_words_that_are_solved_apart_get_the_same_scores(monkeypatch):
    propagation = Propagation(pixel_graph(np.random.RandomState(1).randint(0, 256, (6, 9, 3), dtype=np.uint8)))
    scores = torch.rand(5, 6, 9)
    together = propagation.propagated(scores)
    monkeypatch.setattr("fgseg.guides.propagation._MAPS_BYTES", 2 * 4 * 54)
    np.testing.assert_allclose(propagation.propagated(scores), together, atol=1e-6)
    assert [len(chunk) for chunk in propagation.drawn([scores])] == [2, 2, 1]


def test_a_patch_that_is_like_no_other_keeps_its_score():
    graph = patch_graph(unit_rows(0, 4, 3), torch.zeros(4, 2), neighbours=1)
    scores = torch.rand(2, 4)
    np.testing.assert_allclose(Propagation(graph).propagated(scores), scores, atol=1e-6)


def test_a_word_without_any_score_stays_without():
    found = Propagation(some_graph("pixels", 0)).propagated(torch.stack([torch.zeros(5, 7), torch.rand(5, 7)]))
    assert found[0].abs().max() == 0
    assert found.isfinite().all()


def test_scores_flow_inside_an_even_area_and_not_over_its_edge():
    image = np.zeros((12, 20, 3), np.uint8)
    image[:, 10:] = 200
    scores = torch.zeros(1, 12, 20)
    scores[:, :, :10] = 0.3
    scores[:, 4:8, 2:6] = 0.1  # a hole on the left, and nothing on the right
    found = Propagation(pixel_graph(image)).propagated(scores)[0]
    assert found[4:8, 2:6].min() > 0.2
    assert found[:, 10:].abs().max() < 1e-6


def test_scores_of_other_nodes_are_refused():
    with pytest.raises(ShapeError, match=r"scores: expected an array of shape \(T, 5, 7\).*one score for each node"):
        Propagation(some_graph("pixels", 0)).propagated(torch.zeros(1, 7, 5))


# --- encoded images


def view_of(seed, *, guide=None, order=(0, 1, 2)):
    """A random image of 30 x 60 pixels in three windows, in some order."""
    rng = np.random.RandomState(seed)
    grids, guides = unit_rows(seed, 3, 4, 4, 8), unit_rows(seed + 1, 3, *(guide or (1, 1)), 5)
    boxes = ((0, 0, 40, 40), (20, 0, 60, 40), (40, 0, 80, 40))
    image = rng.randint(0, 256, (30, 60, 3), dtype=np.uint8)
    return EncodedImage(
        image, tuple(DenseFeatures(grids[i], (40, 40)) for i in order), tuple(boxes[i] for i in order), (40, 80),
        Resolution("slide"), "random", guide=tuple(guides[i] for i in order) if guide else None,
    )  # fmt: skip


TEXT = unit_rows(9, 4, 8)


@pytest.mark.parametrize("propagate", ["none", "patches", "pixels", "both"])
@pytest.mark.parametrize("guide", [None, (4, 4), (3, 5)])
def test_the_order_of_windows_changes_nothing(propagate, guide):
    one, other = (
        torch.cat(list(view_of(3, guide=guide, order=order).chunks(TEXT, propagate=propagate)))
        for order in ((0, 1, 2), (2, 0, 1))
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("propagate", ["patches", "pixels", "both"])
def test_maps_and_labels_are_those_of_the_chunks(propagate):
    view = view_of(4)
    labels, best = view.label_map(TEXT, propagate=propagate)
    maps = np.stack(list(view.maps(TEXT, propagate=propagate)))
    assert maps.shape == (4, 30, 60)
    np.testing.assert_allclose(maps.max(0), best, atol=1e-5)
    assert (maps.argmax(0) == labels).mean() > 0.99
    plain = np.stack(list(view.maps(TEXT)))
    assert np.abs(maps - plain).max() > 0.01


def test_a_guide_of_its_own_grid_says_which_patches_are_alike():
    view = view_of(5, guide=(6, 3))
    (scores,) = view.chunks(TEXT, propagate="patches")
    grids = [torch.nn.functional.interpolate(w.grid.permute(2, 0, 1)[None], (6, 3), mode="bilinear")[0].permute(1, 2, 0)
             for w in view.windows]  # fmt: skip
    own = torch.cat([cosines(unit(grid), TEXT).flatten(1) for grid in grids], 1)
    features = torch.cat([one.flatten(0, 1) for one in view.guide])
    graph = patch_graph(features, patch_places([(6, 3)] * 3, view.boxes_xyxy))
    expected = Propagation(graph).propagated(own).reshape(4, 3, 6, 3).unbind(1)
    (stitched,) = stitch_chunks(expected, view.boxes_xyxy, view.canvas_hw)
    np.testing.assert_allclose(scores, stitched, atol=1e-6)


@pytest.mark.parametrize(
    ("canvas_hw", "expected"), [((40, 80), (40, 80)), ((896, 1000), (448, 500)), ((30, 6144), (10, 2048))]
)
def test_pixels_are_compared_at_the_size_of_the_canvas_or_448_and_at_most_2048(canvas_hw, expected):
    height, width = canvas_hw
    window = DenseFeatures(unit_rows(0, 2, 2, 8), canvas_hw)
    image = np.zeros((30, 60, 3), np.uint8)
    view = EncodedImage(image, (window,), ((0, 0, width, height),), canvas_hw, Resolution("keep"), "random")
    (chunk,) = view.chunks(TEXT[:1], propagate="pixels")
    assert tuple(chunk.shape[1:]) == expected


def test_the_graphs_of_an_image_are_built_once(monkeypatch):
    built = []
    for name in ("patch_graph", "pixel_graph"):
        make = {"patch_graph": patch_graph, "pixel_graph": pixel_graph}[name]

        def counted(*args, _name=name, _make=make, **options):
            built.append(_name)
            return _make(*args, **options)

        monkeypatch.setattr(f"fgseg.segmentation.encoded_image.{name}", counted)
    view = view_of(6)
    for _ in range(2):
        list(view.chunks(TEXT, propagate="both"))
    assert sorted(built) == ["patch_graph", "pixel_graph"]


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_every_encoder_takes_it(name, tmp_path):
    seg = fgseg.Segmenter(loaded(with_tokenizer(tmp_path / name, name)))
    view, text = seg.encode(IMAGE, resolution="keep"), seg.encoder.encode_texts(["red", "blue"])
    maps = {how: np.stack(list(view.maps(text, propagate=how))) for how in PROPAGATIONS}
    low, high = float(maps["none"].min()), float(maps["none"].max())
    for how in PROPAGATIONS[1:]:
        assert maps[how].shape == (2, *IMAGE.shape[:2])
        assert low < maps[how].min() < maps[how].max() < high  # a weighted mean of the scores around
