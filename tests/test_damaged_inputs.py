"""A sample of the campaign of damaged inputs, benchmarks/fuzz_inputs.py."""

import pytest
from test_benchmarks import script


@pytest.fixture(scope="module")
def fuzz():
    return script("fuzz_inputs")


@pytest.fixture(scope="module")
def targets(fuzz, tmp_path_factory):
    return fuzz.Targets(tmp_path_factory.mktemp("cases"))


KINDS = "jpeg png gif bmp ppm tiff webp avif jpeg2000 tga qoi mpo class_file coco record request prompt".split()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_end_in_a_result_or_in_one_of_our_errors(kind, fuzz, targets):
    kind = kind.replace("_", " ")
    assert kind in fuzz.KINDS
    outcomes = [fuzz.run_case(targets, kind, number) for number in range(25)]
    assert not [outcome for outcome in outcomes if outcome.is_failure]


def test_a_case_is_the_same_each_time_and_cases_differ(fuzz):
    for kind in fuzz.KINDS:
        cases = [fuzz.case_bytes(kind, number) for number in range(8)]
        assert cases == [fuzz.case_bytes(kind, number) for number in range(8)]
        assert len(set(cases)) > 3


def test_cases_that_fail_are_told_apart(fuzz, targets, monkeypatch):
    monkeypatch.setattr(fuzz, "read_picture", lambda *_, **__: 1 / 0)
    outcome = fuzz.run_case(targets, "png", 0)
    assert (outcome.what, outcome.is_failure) == ("a foreign exception", True)
    assert "ZeroDivisionError" in outcome.detail
    monkeypatch.setattr(fuzz, "SECONDS", -1)
    assert fuzz.run_case(targets, "prompt", 0).what == "slow"
