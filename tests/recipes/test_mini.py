import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file

from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.loading import load_encoder
from fgseg.errors import OptionError, WeightsError
from fgseg.scenes import appearance, composition as scenes, landscapes
from fgseg.scenes.captions import changed, long_caption, narrowed, random_phrase, short_caption
from fgseg.scenes.composition import KINDS, Thing, is_held_out, is_held_out_phrase, phrase_truth, scene, truth_table
from fgseg.scenes.materials import PAINTERS, facing, ground
from fgseg.scenes.trees import bare_tree, crown
from fgseg.scenes.vocabulary import (
    BASIC_COLORS,
    BASIC_SAMPLES,
    CLUTTER,
    COLOR_NAMES,
    MATERIALS,
    MAYBE,
    NAMED_RGB,
    PATTERNS,
    SHAPES,
    Phrase,
    color_truth,
    words,
)
from fgseg.segmentation.model_defaults import model_defaults
from fgseg.training.checkpoints import METRICS
from recipes.mini import batches, objective, recipe as mini, shifts, towers as seeing
from recipes.mini.average import average, main as average_command, mixed
from recipes.mini.muon import Muon
from recipes.mini.patch_losses import one_of, patch_choice, patch_presence

RED, BLUE, WHITE = (0.9, 0.0, 0.0), (0.0, 0.0, 0.9), (1.0, 1.0, 1.0)
few = settings(deadline=None, max_examples=30)


def thing(rgb=RED, second=None, pattern="plain", shape="circle"):
    return Thing(rgb, second or rgb, pattern, shape, Phrase("red", None, shape))


# --- colours and words


def test_every_survey_colour_fits_its_own_name():
    names = list(COLOR_NAMES)
    truth = color_truth(np.array([NAMED_RGB[name] for name in names]), names)
    assert (np.diag(truth) == 1).all()


@pytest.mark.parametrize(
    ("rgb", "fits", "denied"),
    [(RED, "red", "green"), (BLUE, "blue", "red"), (WHITE, "white", "black"), ((0.4, 0.25, 0.1), "brown", "blue")],
)
def test_basic_terms_fit_what_people_call_so(rgb, fits, denied):
    assert color_truth(np.array([rgb]), [fits, denied]).tolist() == [[1, 0]]


@pytest.mark.parametrize("rgb", [(1.0, 1.0, 1.0), (0.94, 0.94, 0.94), (0.96, 0.95, 0.96)])
def test_a_white_without_a_hue_is_of_no_colour_that_has_one(rgb):
    hues = [name for name in BASIC_COLORS if name not in ("white", "grey", "black")]
    assert color_truth(np.array([rgb]), ["white", *hues]).tolist() == [[1] + [0] * len(hues)]


def test_pure_white_is_not_grey_and_no_colour_is_drawn_white_but_white():
    assert color_truth(np.array([WHITE]), ["grey"]).tolist() == [[0]]
    for name, samples in BASIC_SAMPLES.items():
        assert name == "white" or all(min(rgb) < 0.95 for rgb in samples)
        assert samples


def test_a_colour_between_two_terms_is_left_open_rather_than_denied():
    between = np.array([[0.8, 0.0, 0.0], [0.95, 0.45, 0.0]]).mean(0)
    assert color_truth(between[None], ["red", "orange"]).min() >= -1
    assert (color_truth(between[None], ["red", "orange"]) != 0).any()


def test_no_coarse_name_is_in_the_vocabulary():
    assert not {"poop", "puke", "vomit", "shit", "snot"} & set(words())


def test_every_phrase_and_caption_is_made_of_known_words():
    known, rng = set(words()), np.random.default_rng(11)
    for seed in range(20):
        drawn = scene(seed, (32, 32))
        texts = [short_caption(drawn), long_caption(drawn).replace(" .", "")]
        first = drawn.things[0]
        texts += [random_phrase(rng).text, narrowed(rng, first).text, changed(rng, first.phrase).text]
        assert not {word for text in texts for word in text.split()} - known


# --- scenes


@few
@given(seed=st.integers(0, 10_000), side=st.sampled_from([(32, 32), (24, 48), (48, 24)]))
def test_a_scene_is_the_same_for_the_same_seed_and_every_pixel_has_an_owner(seed, side):
    one, other = scene(seed, side), scene(seed, side)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.owners, other.owners)
    assert one.image.shape == (*side, 3)
    assert one.image.dtype == np.uint8
    assert 0 <= one.owners.min() <= one.owners.max() < len(one.things)


def test_held_out_combinations_are_never_drawn_for_training_and_always_when_asked_for():
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


def test_a_held_out_combination_is_never_said_in_training_not_even_where_it_is_false():
    said = {
        text
        for first in range(0, 40, 8)
        for text in batches.make_batch(batches.Lot(range(first, first + 8), (64, 64))).phrases
    }
    held_out = {
        " ".join(part for part in (color, None if pattern == "plain" else pattern, shape) if part)
        for color in BASIC_COLORS
        for pattern in PATTERNS
        for shape in SHAPES
        if is_held_out(color, pattern, shape)
    }
    plain = {text for text in held_out if len(text.split()) == 2}
    # "red circle" is true of a red striped circle too, and said of it.
    assert not said & (held_out - plain)
    assert len(said) > 400


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
        (drawn.owners == index).mean()
        for seed in range(120)
        for drawn in [scene(seed, (32, 32), kind="shapes")]
        for index, item in enumerate(drawn.things)
        if item.shape == shape
    ]
    assert max(areas) > 0.01


@pytest.mark.parametrize("material", MATERIALS)
def test_every_material_is_painted_finite_and_unlike_a_flat_colour(material):
    for seed, surface in enumerate(
        (facing(np.random.default_rng(1), (40, 60)), ground(np.random.default_rng(2), (40, 60), 0.3))
    ):
        color = PAINTERS[material](np.random.default_rng(seed), surface)
        assert color.shape == (40, 60, 3)
        assert np.isfinite(color).all()
        assert color.std((0, 1)).max() > 1e-3


@pytest.mark.parametrize("kind", [kind for kind, share in KINDS.items() if share])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_no_phrase_of_a_scene_might_be_meant_for_another_of_its_things(kind, seed):
    things = [item for item in scene(seed, (24, 32), kind=kind).things if item.shape != CLUTTER]
    truth = phrase_truth(things, [item.phrase for item in things])
    assert (truth[~np.eye(len(things), dtype=bool)] == 0).all()


def test_a_shape_leaves_those_behind_it_to_be_seen():
    for seed in range(60):
        drawn = scene(seed, (96, 96), kind="shapes")
        shown = np.bincount(drawn.owners.ravel(), minlength=len(drawn.things))
        shaped = [index for index, item in enumerate(drawn.things) if item.shape in SHAPES]
        assert (shown[shaped[:-1]] > 20).all()


@pytest.mark.parametrize(("image_hw", "shapes"), [((224, 224), {4, 9, 16}), ((112, 160), {1, 6}), ((24, 24), {1})])
def test_a_sheet_holds_rows_of_shapes_of_names_of_their_own(image_hw, shapes):
    counts = set()
    for seed in range(20):
        drawn = scene(seed, image_hw, kind="sheet")
        ground, *front = drawn.things
        assert ground.shape not in SHAPES
        assert len({item.phrase for item in front}) == len(front)
        assert all(item.shape in SHAPES and not is_held_out_phrase(item.phrase) for item in front)
        assert set(np.unique(drawn.owners)) == set(range(len(drawn.things)))
        counts.add(len(front))
    assert counts == shapes


def test_a_shape_of_a_sheet_is_where_it_is_owned():
    drawn = scene(3, (224, 224), kind="sheet")
    for index, item in enumerate(drawn.things):
        if item.shape in SHAPES and item.pattern == "plain":
            inside = drawn.image[drawn.owners == index].mean(0) / 255
            assert np.corrcoef(inside, item.rgb)[0, 1] > 0.8 or np.ptp(item.rgb) < 0.2


def test_nothing_draws_a_sheet_unless_it_is_asked_for():
    assert KINDS["sheet"] == 0
    assert len(scene(5, (224, 224)).things) <= 7


def test_landscapes_hold_materials_and_put_the_sky_above_the_ground():
    rows = {"sky": [], "grass": []}
    for seed in range(80):
        drawn = scene(seed, (32, 32), kind="outdoors")
        for index, item in enumerate(drawn.things):
            if item.shape in rows and (drawn.owners == index).any():
                rows[item.shape].append(np.nonzero(drawn.owners == index)[0].mean())
    assert len(rows["sky"]) > 10
    assert len(rows["grass"]) > 5
    assert np.mean(rows["sky"]) + 8 < np.mean(rows["grass"])


def test_a_bare_tree_stands_on_its_foot_and_lets_the_sky_through_its_crown():
    coverage = bare_tree(np.random.default_rng(4), (120, 160), (110.0, 80.0), 90.0)
    extent = crown(coverage, 90.0)
    assert coverage.min() == 0
    assert coverage.max() == 1
    assert not coverage[115:].any()  # a trunk ends round
    assert coverage[100, 70:90].max() == 1  # the trunk
    assert 30 < 110 - np.nonzero(coverage.any(1))[0][0] < 130  # about as tall as asked
    assert set(np.unique(extent)) == {0, 1}
    assert (extent[coverage > 0.1] == 1).all()
    assert (coverage > 0.1).sum() < 0.85 * extent.sum()


def test_a_crown_does_not_grow_at_the_picture_s_edge():
    coverage = np.zeros((20, 20), np.float32)
    coverage[:4, 9] = 1
    np.testing.assert_array_equal(crown(coverage, 40.0), coverage)


def test_a_bare_wood_owns_the_sky_between_its_twigs(monkeypatch):
    monkeypatch.setattr(landscapes, "WINTER", 1.0)
    layers = [layer for seed in range(40) for layer in landscapes.outdoors(np.random.default_rng(seed), (48, 48))]
    bare = [layer for layer in layers if layer.material == "tree"]
    assert len(bare) > 10
    assert all(layer.extent is not None for layer in bare)
    covered, called = (sum((part > 0.5).sum() for part in parts) for parts in zip(
        *((layer.coverage, layer.extent) for layer in bare), strict=True
    ))  # fmt: skip
    assert covered < 0.9 * called


def test_a_thing_owns_its_extent_and_colours_what_it_covers():
    canvas = scenes._Canvas((2, 3), is_lit=True)
    ground, tree = stuff("sky"), stuff("tree")
    canvas.lay(ground, np.ones((2, 3, 3), np.float32), np.ones((2, 3), np.float32))
    twig, extent = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    twig[0, 0], extent[0] = 1, 1
    canvas.lay(tree, np.zeros((2, 3, 3), np.float32), twig, extent=extent)
    assert canvas.owners.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert canvas.picture[..., 0].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_the_shadow_of_a_thing_falls_beside_it_and_not_across_the_picture():
    coverage = np.zeros((20, 32), np.float32)
    coverage[8:12, :4] = 1
    darkened = []
    for seed in range(8):  # to each side
        picture = np.ones((20, 32, 3))
        appearance.cast_shadow(np.random.default_rng(seed), picture, coverage)
        assert picture[:, 16:].min() == 1
        darkened.append(np.count_nonzero(picture[..., 0] < 0.9))
    assert max(darkened) > 20


def test_a_shadow_darkens_grounds_and_mist_pales_what_is_far():
    green = np.full((30, 30, 3), (0.2, 0.5, 0.1), np.float32)
    layer = landscapes.Layer("grass", green, np.ones((30, 30), np.float32))
    surface = ground(np.random.default_rng(0), (30, 30), 0.0)
    (shaded,) = landscapes._shaded(np.random.default_rng(1), surface, [layer])
    assert (shaded.color <= green + 1e-6).all()
    assert (shaded.color[..., 1] < 0.4).any()
    (pale,) = landscapes._misty(np.random.default_rng(1), [layer])
    assert (np.ptp(pale.color, axis=-1) < np.ptp(green, axis=-1)).all()
    assert pale.color.mean() > green.mean()


def test_some_pictures_are_graphics_of_flat_colours(monkeypatch):
    of_a_disc = {"kind": "sheet", "image_hw": (56, 56)}
    monkeypatch.setattr(scenes, "_shaped", lambda rng, held_out: _thing("circle", (0.2, 0.4, 0.6)))
    monkeypatch.setattr(scenes, "_background", lambda rng: _thing("background", (0.8, 0.8, 0.8)))
    flat = {(51, 102, 153), (204, 204, 204)}
    drawn = [scenes.scene(seed, **of_a_disc) for seed in range(60)]
    shares = [np.mean([tuple(pixel) in flat for pixel in one.image.reshape(-1, 3).tolist()]) for one in drawn]
    assert 4 < sum(share > 0.85 for share in shares) < 22  # the rest of a graphic are its edges
    monkeypatch.setattr(scenes, "DRAWN", 0.0)
    seed = next(index for index, share in enumerate(shares) if share > 0.85)
    assert len(np.unique(scenes.scene(seed, **of_a_disc).image.reshape(-1, 3), axis=0)) > 100


def _thing(shape: str, rgb: tuple[float, float, float]) -> scenes.Thing:
    return scenes.Thing(rgb, rgb, "plain", shape, Phrase(noun=shape))


def test_paper_is_white_or_grey_and_has_no_hue():
    drawn = [scenes._paper(np.random.default_rng(seed)) for seed in range(100)]
    assert {name for _, name in drawn} == {"white", "grey"}
    for (r, g, b), name in drawn:
        assert r == g == b
        assert color_truth(np.array([[r, g, b]]), [name])[0, 0] == 1


def test_the_light_on_a_thing_ends_softly_across_it():
    coverage = np.zeros((40, 60), np.float32)
    coverage[5:35, 10:50] = 1
    lights = [appearance.form_shadow(np.random.default_rng(seed), coverage) for seed in range(100)]
    shadowed = [light[coverage > 0] for light in lights if (light < 1).any()]
    assert 10 < len(shadowed) < 45
    assert min(light.min() for light in shadowed) > 0.2
    assert all(np.ptp(light) > 0.1 for light in shadowed)
    assert max(np.abs(np.diff(light, axis=1)).max() for light in lights) < 0.15  # no edge that a pattern might have
    assert (appearance.form_shadow(np.random.default_rng(0), np.zeros((4, 4), np.float32)) == 1).all()


def test_compression_changes_a_picture_little_and_leaves_red_red():
    image = np.full((32, 48, 3), (200, 30, 60), np.uint8)
    image[8:24, 8:40] = (30, 60, 200)
    stored = appearance._compressed(image, 40)
    assert stored.shape == image.shape
    assert (stored != image).any()
    assert np.abs(stored[12:20, 16:32].mean((0, 1)) - (30, 60, 200)).max() < 8


# --- what is true


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


def stuff(material):
    return Thing(RED, RED, "plain", material, Phrase(noun=material))


@pytest.mark.parametrize(
    ("material", "noun", "expected"),
    [
        ("grass", "grass", 1), ("grass", "lawn", 1), ("grass", "hill", -1), ("grass", "sky", 0),
        ("tree", "bush", -1), ("tree", "circle", 0), ("tree", "background", -1),
        ("clutter", "grass", 0), ("clutter", "circle", -1), ("clutter", "thing", -1),
    ],
)  # fmt: skip
def test_a_material_is_called_by_its_names_and_left_open_for_those_it_might_go_by(material, noun, expected):
    assert phrase_truth([stuff(material)], [Phrase(noun=noun)]).tolist() == [[expected]]


def test_a_pattern_is_neither_said_of_a_material_nor_denied():
    assert phrase_truth([stuff("sand")], [Phrase(pattern="dotted"), Phrase(None, "dotted", "sky")]).tolist() == [
        [-1, 0]
    ]


def test_no_colour_is_called_as_a_material_is():
    assert not set(COLOR_NAMES) & {word for names in MATERIALS.values() for word in names}


def test_names_left_open_are_known_words_and_none_of_the_materials_own():
    for material, names in MAYBE.items():
        assert set(names) <= {word for own in MATERIALS.values() for word in own}
        assert not set(names) & set(MATERIALS[material])


def test_truth_table_follows_the_owners():
    drawn = scene(5, (32, 32), kind="shapes")
    phrases = [item.phrase for item in drawn.things]
    table = truth_table(drawn, phrases)
    assert table.shape == (len(phrases), 32, 32)
    for index in range(len(phrases)):
        assert (table[index][drawn.owners == index] == 1).all()


@few
@given(seed=st.integers(0, 5_000))
def test_narrowed_phrases_stay_true_and_changed_ones_are_not(seed):
    rng = np.random.default_rng(seed)
    item = next(item for item in reversed(scene(seed, (16, 16)).things) if item.shape != CLUTTER)
    assert phrase_truth([item], [narrowed(rng, item)])[0, 0] == 1
    other = changed(rng, item.phrase)
    assert other != item.phrase


# --- losses


@pytest.mark.parametrize(("truth", "expected"), [(1, math.log(2)), (0, 3 * math.log(2)), (-1, 0.0)])
def test_patch_presence_of_one_kind_of_pairs_alone_is_their_mean(truth, expected):
    cosine = torch.zeros(1, 2, 3)
    loss = patch_presence(cosine, cosine[..., 0], torch.full((1, 2, 3), truth), torch.tensor(1.0), negative_weight=3.0)
    assert loss.item() == pytest.approx(expected)


def test_patch_presence_equals_a_loop_over_pairs():
    random = np.random.RandomState(2)
    cosine, rival = torch.from_numpy(random.randn(2, 3, 4)), torch.from_numpy(random.randn(2, 3))
    truth = torch.from_numpy(random.randint(-1, 2, (2, 3, 4)))
    missed, raised = [], []
    for b, n, p in np.ndindex(2, 3, 4):
        margin = 2.0 * float(cosine[b, n, p] - rival[b, n])
        if truth[b, n, p] == 1:
            missed.append(np.log1p(np.exp(-margin)))
        elif truth[b, n, p] == 0:
            raised.append(np.log1p(np.exp(margin)))
    expected = np.mean(missed) + 3.0 * np.mean(raised)
    loss = patch_presence(cosine, rival, truth, torch.tensor(2.0), negative_weight=3.0)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_patch_choice_equals_a_loop_over_places():
    random = np.random.RandomState(3)
    cosine, rival = torch.from_numpy(random.randn(2, 5, 4)), torch.from_numpy(random.randn(2, 5))
    truth = torch.from_numpy(random.randint(-1, 2, (2, 5, 4)))
    truth[0, 0], truth[0, 1] = 0, torch.tensor([0, -1, 0, 0])  # only the rival is right; nobody knows
    weight = torch.from_numpy(random.rand(2, 5))
    total = counted = 0.0
    for b, n in np.ndindex(2, 5):
        worth = {"rival": np.exp(2.0 * float(rival[b, n]))}
        worth |= {p: np.exp(2.0 * float(cosine[b, n, p])) for p in range(4) if truth[b, n, p] >= 0}
        right = [p for p in range(4) if truth[b, n, p] == 1]
        if not right and len(worth) < 5:
            continue
        total -= float(weight[b, n]) * np.log(sum(worth[p] for p in right or ["rival"]) / sum(worth.values()))
        counted += float(weight[b, n])
    loss = patch_choice(cosine, rival, truth, torch.tensor(2.0), weight=weight)
    assert float(loss) == pytest.approx(total / counted, rel=1e-6)


def test_the_scale_gets_a_gradient_beside_phrases_that_are_not_counted():
    scale = torch.tensor(2.0, requires_grad=True)
    patch_choice(
        torch.ones(1, 1, 2), torch.zeros(1, 1), torch.tensor([[[1, -1]]]), scale, weight=torch.ones(1, 1)
    ).backward()
    assert torch.isfinite(scale.grad)


def test_one_of_equals_a_loop_over_rows():
    random = np.random.RandomState(5)
    cosine, truth = torch.from_numpy(random.randn(40, 4)), torch.from_numpy(random.randint(-1, 2, (40, 4)))
    weight = torch.from_numpy(random.rand(40))
    total = counted = 0.0
    for row in range(40):
        if (truth[row] == 1).sum() != 1:
            continue
        worth = [np.exp(2.0 * float(cosine[row, p])) * float(truth[row, p] >= 0) for p in range(4)]
        total -= float(weight[row]) * np.log(worth[truth[row].tolist().index(1)] / sum(worth))
        counted += float(weight[row])
    assert counted
    assert float(one_of(cosine, truth, torch.tensor(2.0), weight=weight)) == pytest.approx(total / counted, rel=1e-6)


def test_one_of_is_0_where_no_word_is_true():
    assert one_of(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor(1.0), weight=torch.ones(2)) == 0


# --- the recipe


@pytest.mark.parametrize("shapes", [[(6, 4), (6, 4), (4, 6)], [(5, 5)] * 3])
def test_muon_moves_many_matrices_as_torch_moves_each(shapes):
    torch.manual_seed(3)
    ours, theirs = ([torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2))
    with torch.no_grad():
        for one, other in zip(ours, theirs, strict=True):
            other.copy_(one)
    optimizers = Muon(ours, 0.1, 0.05), torch.optim.Muon(theirs, 0.1, 0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_muon_leaves_a_matrix_without_a_gradient_alone():
    still = torch.nn.Parameter(torch.ones(2, 2))
    Muon([still], 0.1, 0.05).step()
    assert (still == 1).all()


def test_a_batch_says_of_each_place_whose_it_is():
    batch = batches.make_batch(batches.Lot(range(3), (32, 48)))
    assert batch.pixels.shape == (3, 32, 48, 3)
    assert batch.owner.shape == (3, 8 * 12)
    assert batch.own.shape == (3, batches.PHRASES)
    assert batch.phrases[0] == "anything else"
    assert (batch.truth[:, 0] == -1).all()
    for row, places in zip(batch.things, batch.owner, strict=True):
        assert set(places.tolist()) <= set(row.tolist()) - {-1}


def test_a_shape_is_pooled_over_its_box_and_a_background_over_its_own_patches():
    drawn = next(
        one
        for seed in range(100)
        for one in [scene(seed, (64, 64), kind="shapes")]
        if [item.shape in SHAPES for item in one.things] == [False, True] and (one.owners == 1).any(1).sum() > 32
    )
    background, shape = batches._pooling(drawn, 3)[:2].reshape(2, 8, 8)
    rows, columns = np.nonzero(drawn.owners == 1)
    assert shape.sum() == pytest.approx(1, abs=1e-5)
    assert background.sum() == pytest.approx(1, abs=1e-5)
    (top, bottom), (left, right) = (np.nonzero(shape.any(axis))[0][[0, -1]] for axis in (1, 0))
    assert (top, bottom) == (rows.min() // 8, rows.max() // 8)
    assert (left, right) == (columns.min() // 8, columns.max() // 8)
    inner = shape[top + 1 : bottom, left + 1 : right]
    assert inner.size
    assert np.ptp(inner) < 1e-6  # the same weight all over the box, whatever the shape


def test_a_mirrored_batch_shows_the_same_scenes_the_other_way_round():
    plain, mirrored = (batches.make_batch(batches.Lot(range(2), (16, 24), view)) for view in (0, 1))
    np.testing.assert_array_equal(plain.pixels.flip(2), mirrored.pixels)


def test_a_moved_batch_shows_the_same_scenes_mirrored_at_their_edges_and_names_what_they_show():
    seeds, image_hw, most = range(6), (64, 72), batches.MOVED
    batch = batches.make_batch(batches.Lot(seeds, image_hw, 2))
    assert batch.pixels.shape == (6, *image_hw, 3)
    for seed, pixels, owner in zip(seeds, batch.pixels.numpy(), batch.owner, strict=True):
        drawn = scene(seed, image_hw)
        around = [(most, most), (most, most)]
        image, owners = np.pad(drawn.image, [*around, (0, 0)], "symmetric"), np.pad(drawn.owners, around, "symmetric")
        steps = [(y, x) for y in range(2 * most + 1) for x in range(2 * most + 1)]
        (at,) = [(y, x) for y, x in steps if (image[y : y + 64, x : x + 72] == pixels).all()]
        named = {drawn.things[index].phrase.text for index in np.unique(owners[at[0] :, at[1] :][:64, :72])}
        assert {batch.phrases[batch.full[thing]] for thing in owner} <= named


def test_a_batch_of_sheets_shows_many_shapes_and_has_no_captions():
    batch = batches.make_batch(batches.Lot(range(4), (224, 224), kind="sheet"))
    assert batch.captions == ()
    assert (batch.things >= 0).sum(1).min() >= 5
    assert batches.Texts(mini.build_tokenizer())(batch.captions).shape == (0, 0)


def test_the_words_asked_everywhere_follow_the_rival():
    batch = batches.make_batch(batches.Lot(range(1), (32, 32)))
    asked = [phrase.text for kind in batches.WORDS.values() for phrase in kind]
    assert list(batch.phrases[1 : 1 + len(asked)]) == asked
    assert len(set(batch.phrases)) == len(batch.phrases)


def test_a_window_of_nothing_but_clutter_keeps_all_the_names():
    things = thing(), thing(shape=CLUTTER)
    owners, kept = batches._shown(np.ones((2, 2), np.int32), things)
    assert kept == things
    assert (owners == 1).all()
    owners, kept = batches._shown(np.zeros((2, 2), np.int32), things)
    assert kept == things[:1]
    owners, kept = batches._shown(np.ones((2, 2), np.int32), things[::-1])
    assert kept == things[:1]
    assert (owners == 0).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_scene_is_shown_in_every_view_and_by_one_worker(workers):
    schedule = batches.Schedule(720, 36, 4, 1e-3, workers, views=6, first_seed=100)
    views = {}
    for step, lot in enumerate(map(schedule.lot, range(756))):
        views.setdefault(lot.seeds[0], []).append((step % workers, lot.image_hw, len(lot.seeds), lot.kind, lot.view))
    for seen in views.values():
        assert [view for *_, view in seen] == list(range(6))
        assert len({one[:4] for one in seen}) == 1
    assert list(views) == list(range(100, 604, 4))
    kinds = [(one[0][3], one[0][1]) for one in views.values()]
    stages = [
        (batches.SMALL_LOTS, 0, 30), (batches.LARGE_LOTS, 30, 72),
        (batches.LAST_LOTS, 72, 120), (batches.ATTENTION_LOTS, 120, 126),
    ]  # fmt: skip
    assert kinds == [looks[index % len(looks)] for looks, first, stop in stages for index in range(first, stop)]
    assert [one[0][2] for one in views.values()] == [4 if hw == batches.SMALL else 2 for _, hw in kinds]


def test_the_rate_falls_by_steps_or_by_the_clock_whichever_is_ahead():
    schedule = batches.Schedule(100, 1000, 4, 1.0)
    assert schedule.rate_at(9) == pytest.approx(0.1)
    assert schedule.rate_at(600) == pytest.approx(0.51)
    assert schedule.rate_at(600, done=0.2) == schedule.rate_at(600)
    assert schedule.rate_at(600, done=1.5) == pytest.approx(0.02)


def test_a_run_ends_in_the_time_it_is_given(tiny, tmp_path):
    mini.train(tmp_path, batches.Schedule(10_000, 0, 4, 1e-3, workers=0), compiled=False, hours=2 / 3600)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert 0 < state["step"] < 10_000
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_no_time_is_refused(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mini", "--out", str(tmp_path), "--hours", "0"])
    with pytest.raises(SystemExit, match="2"):
        mini.main()
    assert capsys.readouterr().err.splitlines()[-1] == "mini: error: hours: expected a number above 0, got 0.0"


def features(model, pixels):
    """What the model itself computes, as `seen` gives it."""
    unit = torch.nn.functional.normalize
    return unit(model.dense_features(pixels), dim=-1).flatten(1, 2), unit(model.image_features(pixels), dim=-1)


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # ways of computing, both of which a CPU can do
def test_what_training_sees_is_what_the_model_computes(tiny, device):
    torch.manual_seed(0)
    model = mini.new_model(mini.full_config(mini.build_tokenizer()))
    pixels = torch.randn(2, 3, 32, 32)
    found = mini._ways_of_seeing(device, compiled=False)["attention"](model, pixels)
    torch.testing.assert_close(found, features(model, pixels), atol=2e-6, rtol=0)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mini, "TEXT_CONFIG", {**mini.TEXT_CONFIG, "hidden_size": 16, "intermediate_size": 32,
                                              "num_attention_heads": 2, "num_hidden_layers": 1})  # fmt: skip
    vision = {**mini.CONFIG["vision_config"], "hidden_size": 120, "intermediate_size": 32, "num_hidden_layers": 3,
              "image_size": 32}  # fmt: skip
    monkeypatch.setattr(mini, "CONFIG", {**mini.CONFIG, "projection_dim": 16, "vision_config": vision})
    monkeypatch.setattr(batches, "SMALL", (16, 16))
    monkeypatch.setattr(batches, "SMALL_LOTS", ((None, (16, 16)),))
    monkeypatch.setattr(batches, "LARGE_LOTS", ((None, (16, 16)), ("sheet", (32, 32))))
    monkeypatch.setattr(batches, "LAST_LOTS", ((None, (32, 32)), ("outdoors", (32, 32))))
    monkeypatch.setattr(batches, "ATTENTION_LOTS", ((None, (32, 32)),))


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(tiny, tmp_path):
    folder = mini.train(tmp_path, batches.Schedule(80, 1, 8, 3e-3, workers=0), compiled=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["presence"] < 0.8 * lines[0]["presence"]
    encoder = load_encoder(str(folder), dtype="float32", device="cpu")
    assert model_defaults(encoder).background == ("anything else",)
    assert encoder.encode_texts(["red circle"]).shape == (1, 16)


def test_a_run_can_start_from_another_models_weights(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(0, 1, 4, 1e-3, workers=0), compiled=False)
    schedule = batches.Schedule(0, 1, 4, 0.0, workers=0)
    same = mini.train(tmp_path / "same", schedule, seed=1, start=first, compiled=False)
    assert (first / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    other = mini.train(tmp_path / "other", schedule, seed=1, compiled=False)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_shifts_take_another_models_text_side_and_a_vision_tower_of_their_own(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(0, 1, 4, 1e-3, workers=0), compiled=False)
    then = mini.train(tmp_path / "then", batches.Schedule(1, 0, 4, 0.0, workers=0), seed=1, start=first, compiled=False)
    before, after = (load_file(folder / "model.safetensors") for folder in (first, then))
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert same >= {name for name in before if not name.startswith("vision_model.")}
    assert "vision_model.encoder.layers.0.self_attn.v_proj.weight" not in same


def test_shifts_go_on_from_a_model_that_went_through_them(tiny, tmp_path):
    first = mini.train(tmp_path / "first", batches.Schedule(3, 0, 4, 3e-3, workers=0), compiled=False)
    mini.train(tmp_path / "then", batches.Schedule(1, 0, 4, 0.0, workers=0), seed=1, start=first, compiled=False)
    (before, _), (after, keeps) = checkpointed(tmp_path / "first"), checkpointed(tmp_path / "then")
    assert keeps
    pixels = normalized_pixels(torch.from_numpy(np.stack([scene(seed, (32, 32)).image for seed in range(3)])))
    with torch.no_grad():
        for ours, theirs in zip(*(seeing.seen_through_shifts(model, pixels) for model in (before, after)), strict=True):
            assert (ours * theirs).sum(-1).min() > 0.999  # bf16 on the way


def checkpointed(folder):
    """The model of a run's checkpoint, and whether its hidden states keep positions to themselves."""
    model = mini.new_model(mini.full_config(mini.build_tokenizer()))
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    written = model.vision_model.encoder.layers[0].mlp.fc2.weight[: shifts.RESERVED]
    return model, not written.any()


def test_what_a_run_through_shifts_writes_is_a_plain_model_that_sees_the_same(tiny, tmp_path):
    folder = mini.train(tmp_path, batches.Schedule(3, 0, 4, 3e-3, workers=0), compiled=False)
    model, keeps = checkpointed(tmp_path)
    assert keeps
    plain = mini.new_model(mini.full_config(mini.build_tokenizer()))
    plain.load_state_dict(load_file(folder / "model.safetensors"))
    pixels = normalized_pixels(torch.from_numpy(np.stack([scene(seed, (32, 32)).image for seed in range(3)])))
    with torch.no_grad():
        for ours, theirs in zip(seeing.seen_through_shifts(model, pixels), seeing.seen(plain, pixels), strict=True):
            assert (ours * theirs).sum(-1).min() > 0.999


def test_attention_takes_over_where_the_shifts_end(tiny, tmp_path):
    mini.train(tmp_path, batches.Schedule(2, 0, 4, 1e-3, workers=0), compiled=False)
    before, _ = checkpointed(tmp_path)
    mini.train(tmp_path, batches.Schedule(2, 1, 4, 0.0, workers=0), compiled=False)
    after, _ = checkpointed(tmp_path)
    pixels = normalized_pixels(torch.from_numpy(scene(9, (32, 32)).image[None]))
    with torch.no_grad():
        (ours, _), (theirs, _) = seeing.seen_through_shifts(before, pixels), seeing.seen(after, pixels)
    assert (ours * theirs).sum(-1).min() > 0.999


@pytest.mark.parametrize("kind", batches.WORDS)
def test_each_kind_of_word_is_asked_of_its_own_columns(kind):
    batch = batches.make_batch(batches.Lot(range(4), (64, 64), kind="shapes"))
    own = torch.tensor([text in {phrase.text for phrase in batches.WORDS[kind]} for text in batch.phrases])
    phrase, scale = torch.eye(len(batch.phrases)), torch.tensor(10.0)
    places = batch.owner.view(4, 16, 16)[:, ::2, ::2].flatten(1)  # a place of each patch, whose thing it shows
    right = (batch.truth[places] == 1).float()
    found = [objective._word_losses(batch, right * told, phrase, scale)[kind] for told in (own, ~own)]
    assert found[0] < 0.5 * found[1]


class Killed(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "CHECKPOINT_STEPS", 4)
    schedule = batches.Schedule(4, 4, 4, 1e-3, workers=0)
    whole = mini.train(tmp_path / "whole", schedule, compiled=False)
    steps = iter(range(7))

    def update_until_killed(*arguments, real=mini._update):
        if next(steps) == 6:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(mini, "_update", update_until_killed)
        with pytest.raises(Killed):
            mini.train(tmp_path / "parts", schedule, compiled=False)
    with (tmp_path / "parts" / METRICS).open("a") as lines:
        lines.write('{"step": 5, "seconds": 9}\n')  # what the killed run has logged after its checkpoint
    parts = mini.train(tmp_path / "parts", schedule, compiled=False)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    steps_logged = [[row["step"] for row in logged(tmp_path / name)] for name in ("whole", "parts")]
    assert steps_logged[0] == steps_logged[1]


def logged(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_the_time_of_an_interrupted_run_counts(tiny, tmp_path, monkeypatch):
    """By a clock that goes on an hour whenever it is looked at."""
    monkeypatch.setattr(mini, "CHECKPOINT_STEPS", 2)
    clock = iter(range(0, 10**6, 3600))
    monkeypatch.setattr(mini.time, "monotonic", lambda: next(clock))
    schedule = batches.Schedule(4, 0, 4, 1e-3, workers=0)
    mini.train(tmp_path, schedule, compiled=False)
    spent = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["seconds"]
    assert spent >= 4 * 3600
    longer = batches.Schedule(8, 0, 4, 1e-3, workers=0)
    written = mini.train(tmp_path, longer, compiled=False, hours=spent / 3600)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    assert written == tmp_path / "model"
    mini.train(tmp_path, longer, compiled=False, hours=spent / 3600 + 0.5)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5


# --- two checkpoints' average


def test_the_average_of_a_checkpoint_and_itself_is_the_model_that_the_run_wrote(tiny, tmp_path):
    written = mini.train(tmp_path / "run", batches.Schedule(3, 0, 4, 1e-3, workers=0), compiled=False)
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    folder = average(checkpoint, checkpoint, tmp_path / "average", share=0.3)
    own, made = (load_file(place / "model.safetensors") for place in (written, folder))
    assert own.keys() == made.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=0)
    assert (folder / "config.json").read_text() == (written / "config.json").read_text()
    load_encoder(str(folder), dtype="float32", device="cpu")


def test_tensors_are_mixed_by_share_and_whole_numbers_are_the_second_s():
    first = {"a": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    second = {"a": torch.tensor([1.0, 0.0]), "n": torch.tensor(5)}
    made = mixed(first, second, 0.25)
    assert made["a"].tolist() == [0.25, 3.0]
    assert made["n"] == 5


def test_what_cannot_be_averaged_is_refused(tiny, tmp_path):
    with pytest.raises(OptionError, match=r"share: expected a number in \[0, 1\], got 1.5"):
        mixed({}, {}, 1.5)
    with pytest.raises(WeightsError, match="name two of one run"):
        mixed({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, 0.5)
    for held in (b"no", b""):
        (tmp_path / "x.pt").write_bytes(held)
        with pytest.raises(WeightsError, match=r"x\.pt: expected a checkpoint\.pt of the recipe"):
            average(tmp_path / "x.pt", tmp_path / "x.pt", tmp_path / "out")
    mini.train(tmp_path / "run", batches.Schedule(0, 1, 4, 1e-3, workers=0), compiled=False)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: expected checkpoints of the stage of shifts"):
        average(tmp_path / "run" / "checkpoint.pt", tmp_path / "run" / "checkpoint.pt", tmp_path / "out")
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: expected weights of the recipe's model"):
        average(tmp_path / "other.pt", tmp_path / "other.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_average_s_command_says_what_is_wrong_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["average", str(tmp_path / "a.pt"), "b.pt", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        average_command()
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"average: error: {tmp_path / 'a.pt'}: expected a checkpoint")
    )
