import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fgseg.scenes import composition as scenes
from fgseg.scenes.composition import KINDS, Thing, is_held_out, is_held_out_phrase, phrase_truth, scene, truth_table
from fgseg.scenes.vocabulary import (
    BASIC_COLORS,
    CLUTTER,
    NAMED_RGB,
    PATTERNS,
    SHAPES,
    Phrase,
    color_truth,
)

RED, WHITE = (0.9, 0.0, 0.0), (1.0, 1.0, 1.0)
few = settings(deadline=None, max_examples=30)


def thing(rgb=RED, second=None, pattern="plain", shape="circle"):
    return Thing(rgb, second or rgb, pattern, shape, Phrase("red", None, shape))


def stuff(material):
    return Thing(RED, RED, "plain", material, Phrase(noun=material))


def _thing(shape: str, rgb: tuple[float, float, float]) -> scenes.Thing:
    return scenes.Thing(rgb, rgb, "plain", shape, Phrase(noun=shape))


@few
@given(seed=st.integers(0, 10_000), side=st.sampled_from([(32, 32), (24, 48), (48, 24)]))
def test_a_seed_always_gives_the_same_scene_and_every_pixel_belongs_to_a_thing(seed, side):
    one, other = scene(seed, side), scene(seed, side)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.image.shape == (*side, 3)
    assert one.image.dtype == np.uint8
    assert 0 <= one.labels.min() <= one.labels.max() < len(one.things)


def test_held_out_combinations_appear_only_on_request():
    def held(item):
        return any(
            is_held_out(name, item.pattern, item.shape)
            for name in BASIC_COLORS
            if color_truth(np.array([item.rgb]), [name])[0, 0] == 1
        )

    drawn = [item for seed in range(150) for item in scene(seed, (16, 16), kind="shapes").things]
    assert len(drawn) > 400
    assert not any(held(item) for item in drawn)
    assert all(held(scene(seed, (16, 16), held_out=True).things[-1]) for seed in range(30))


@pytest.mark.parametrize("color", ["crimson", "teal", "lavender"])
def test_a_survey_colour_is_held_out_where_a_basic_term_for_it_is(color):
    basic = [name for name in BASIC_COLORS if color_truth(np.array([NAMED_RGB[color]]), [name])[0, 0] == 1]
    pairs = [(pattern, shape) for pattern in PATTERNS for shape in SHAPES]
    held_out = [pair for pair in pairs if any(is_held_out(name, *pair) for name in basic)]
    assert [pair for pair in pairs if is_held_out_phrase(Phrase(color, *pair))] == held_out
    assert held_out


def test_about_one_combination_in_twelve_is_held_out():
    every = [(c, p, s) for c in BASIC_COLORS for p in PATTERNS for s in SHAPES]
    assert 0.05 < np.mean([is_held_out(*one) for one in every]) < 0.12


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_somewhere(shape):
    areas = [
        (drawn.labels == index).mean()
        for seed in range(120)
        for drawn in [scene(seed, (32, 32), kind="shapes")]
        for index, item in enumerate(drawn.things)
        if item.shape == shape
    ]
    assert max(areas) > 0.01


@pytest.mark.parametrize("kind", [kind for kind, share in KINDS.items() if share])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_the_phrase_of_a_thing_is_false_for_all_other_things_of_the_scene(kind, seed):
    things = [item for item in scene(seed, (24, 32), kind=kind).things if item.shape != CLUTTER]
    truth = phrase_truth(things, [item.phrase for item in things])
    assert (truth[~np.eye(len(things), dtype=bool)] == 0).all()


def test_a_shape_leaves_the_shapes_behind_it_visible():
    for seed in range(60):
        drawn = scene(seed, (96, 96), kind="shapes")
        shown = np.bincount(drawn.labels.ravel(), minlength=len(drawn.things))
        shaped = [index for index, item in enumerate(drawn.things) if item.shape in SHAPES]
        assert (shown[shaped[:-1]] > 20).all()


@pytest.mark.parametrize(("image_hw", "shapes"), [((224, 224), {4, 9, 16}), ((112, 160), {1, 6}), ((24, 24), {1})])
def test_a_sheet_has_rows_of_shapes_with_different_names(image_hw, shapes):
    counts = set()
    for seed in range(20):
        drawn = scene(seed, image_hw, kind="sheet")
        ground, *front = drawn.things
        assert ground.shape not in SHAPES
        assert len({item.phrase for item in front}) == len(front)
        assert all(item.shape in SHAPES and not is_held_out_phrase(item.phrase) for item in front)
        assert set(np.unique(drawn.labels)) == set(range(len(drawn.things)))
        counts.add(len(front))
    assert counts == shapes


def test_the_labels_of_a_sheet_cover_its_shapes():
    drawn = scene(3, (224, 224), kind="sheet")
    for index, item in enumerate(drawn.things):
        if item.shape in SHAPES and item.pattern == "plain":
            inside = drawn.image[drawn.labels == index].mean(0) / 255
            assert np.corrcoef(inside, item.rgb)[0, 1] > 0.8 or np.ptp(item.rgb) < 0.2


def test_sheets_are_drawn_only_on_request():
    assert KINDS["sheet"] == 0
    assert len(scene(5, (224, 224)).things) <= 7


def test_landscapes_have_materials_with_the_sky_above_the_grass():
    rows = {"sky": [], "grass": []}
    for seed in range(80):
        drawn = scene(seed, (32, 32), kind="outdoors")
        for index, item in enumerate(drawn.things):
            if item.shape in rows and (drawn.labels == index).any():
                rows[item.shape].append(np.nonzero(drawn.labels == index)[0].mean())
    assert len(rows["sky"]) > 10
    assert len(rows["grass"]) > 5
    assert np.mean(rows["sky"]) + 8 < np.mean(rows["grass"])


def test_labels_follow_the_extent_and_colours_the_coverage():
    canvas = scenes._Canvas((2, 3), is_lit=True)
    ground, tree = stuff("sky"), stuff("tree")
    canvas.lay(ground, np.ones((2, 3, 3), np.float32), np.ones((2, 3), np.float32))
    twig, extent = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    twig[0, 0], extent[0] = 1, 1
    canvas.lay(tree, np.zeros((2, 3, 3), np.float32), twig, extent=extent)
    assert canvas.labels.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert canvas.picture[..., 0].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_some_pictures_are_graphics_of_flat_colours(monkeypatch):
    of_a_disc = {"kind": "sheet", "image_hw": (56, 56)}
    monkeypatch.setattr(scenes, "_random_shape", lambda rng, held_out: _thing("circle", (0.2, 0.4, 0.6)))
    monkeypatch.setattr(scenes, "_background", lambda rng: _thing("background", (0.8, 0.8, 0.8)))
    flat = {(51, 102, 153), (204, 204, 204)}
    drawn = [scenes.scene(seed, **of_a_disc) for seed in range(60)]
    shares = [np.mean([tuple(pixel) in flat for pixel in one.image.reshape(-1, 3).tolist()]) for one in drawn]
    assert 4 < sum(share > 0.85 for share in shares) < 22  # the rest of a graphic are its edges
    monkeypatch.setattr(scenes, "GRAPHIC_SHARE", 0.0)
    seed = next(index for index, share in enumerate(shares) if share > 0.85)
    assert len(np.unique(scenes.scene(seed, **of_a_disc).image.reshape(-1, 3), axis=0)) > 100


def test_paper_is_white_or_grey_without_hue():
    drawn = [scenes._paper(np.random.default_rng(seed)) for seed in range(100)]
    assert {name for _, name in drawn} == {"white", "grey"}
    for (r, g, b), name in drawn:
        assert r == g == b
        assert color_truth(np.array([[r, g, b]]), [name])[0, 0] == 1


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        (Phrase(color="red"), 1),
        (Phrase(color="blue"), 0),
        (Phrase(noun="circle"), 1),
        (Phrase(noun="shape"), 1),
        (Phrase(noun="background"), 0),
        (Phrase("red", "plain", "circle"), 1),
        (Phrase("red", "striped", "circle"), 0),
        (Phrase("red", None, "star"), 0),
    ],
)
def test_a_phrase_is_true_of_a_plain_red_circle(phrase, expected):
    assert phrase_truth([thing()], [phrase]).tolist() == [[expected]]


def test_the_second_colour_of_a_pattern_is_left_open():
    striped = thing(second=WHITE, pattern="striped")
    assert phrase_truth([striped], [Phrase(color="white"), Phrase(color="white", noun="star")]).tolist() == [[-1, 0]]


@pytest.mark.parametrize(
    ("material", "noun", "expected"),
    [
        ("grass", "grass", 1), ("grass", "lawn", 1), ("grass", "hill", -1), ("grass", "sky", 0),
        ("tree", "bush", -1), ("tree", "circle", 0), ("tree", "background", -1),
        ("clutter", "grass", 0), ("clutter", "circle", -1), ("clutter", "thing", -1),
    ],
)  # fmt: skip
def test_the_names_of_a_material_are_true_and_its_possible_names_open(material, noun, expected):
    assert phrase_truth([stuff(material)], [Phrase(noun=noun)]).tolist() == [[expected]]


def test_every_pattern_is_open_for_a_material():
    assert phrase_truth([stuff("sand")], [Phrase(pattern="dotted"), Phrase(None, "dotted", "sky")]).tolist() == [
        [-1, 0]
    ]


def test_truth_table_is_true_where_a_thing_is_visible():
    drawn = scene(5, (32, 32), kind="shapes")
    phrases = [item.phrase for item in drawn.things]
    table = truth_table(drawn, phrases)
    assert table.shape == (len(phrases), 32, 32)
    for index in range(len(phrases)):
        assert (table[index][drawn.labels == index] == 1).all()
