import numpy as np
import pytest

from fgseg.scenes.vocabulary import (
    BASIC_COLORS,
    BASIC_SAMPLES,
    COLOR_NAMES,
    MATERIALS,
    MAYBE,
    NAMED_RGB,
    color_truth,
    words,
)

RED, BLUE, WHITE = (0.9, 0.0, 0.0), (0.0, 0.0, 0.9), (1.0, 1.0, 1.0)


def test_every_survey_colour_fits_its_own_name():
    names = list(COLOR_NAMES)
    truth = color_truth(np.array([NAMED_RGB[name] for name in names]), names)
    assert (np.diag(truth) == 1).all()


@pytest.mark.parametrize(
    ("rgb", "fits", "denied"),
    [(RED, "red", "green"), (BLUE, "blue", "red"), (WHITE, "white", "black"), ((0.4, 0.25, 0.1), "brown", "blue")],
)
def test_basic_terms_fit_typical_colours(rgb, fits, denied):
    assert color_truth(np.array([rgb]), [fits, denied]).tolist() == [[1, 0]]


@pytest.mark.parametrize("rgb", [(1.0, 1.0, 1.0), (0.94, 0.94, 0.94), (0.96, 0.95, 0.96)])
def test_a_white_without_hue_fits_no_term_with_a_hue(rgb):
    hues = [name for name in BASIC_COLORS if name not in ("white", "grey", "black")]
    assert color_truth(np.array([rgb]), ["white", *hues]).tolist() == [[1] + [0] * len(hues)]


def test_pure_white_is_not_grey_and_only_white_has_white_samples():
    assert color_truth(np.array([WHITE]), ["grey"]).tolist() == [[0]]
    for name, samples in BASIC_SAMPLES.items():
        assert name == "white" or all(min(rgb) < 0.95 for rgb in samples)
        assert samples


def test_a_colour_between_two_terms_is_not_denied_both():
    between = np.array([[0.8, 0.0, 0.0], [0.95, 0.45, 0.0]]).mean(0)
    assert color_truth(between[None], ["red", "orange"]).min() >= -1
    assert (color_truth(between[None], ["red", "orange"]) != 0).any()


def test_no_coarse_name_is_in_the_vocabulary():
    assert not {"poop", "puke", "vomit", "shit", "snot"} & set(words())


def test_no_colour_has_the_name_of_a_material():
    assert not set(COLOR_NAMES) & {word for names in MATERIALS.values() for word in names}


def test_possible_names_of_a_material_are_names_of_other_materials():
    for material, names in MAYBE.items():
        assert set(names) <= {word for own in MATERIALS.values() for word in own}
        assert not set(names) & set(MATERIALS[material])
