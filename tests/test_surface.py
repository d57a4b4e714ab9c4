"""The public names: removing one fails until `api_surface.json` is edited in the same change."""

import importlib
import json
from pathlib import Path

import pytest

SURFACE = json.loads((Path(__file__).parent / "data" / "api_surface.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", SURFACE)
def test_public_names_are_those_of_the_inventory(module):
    loaded = importlib.import_module(module)
    assert sorted(loaded.__all__) == SURFACE[module]
    for name in loaded.__all__:
        assert getattr(loaded, name) is not None


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import fgseg

    with pytest.raises(AttributeError, match="No fgseg attribute lode"):
        fgseg.lode  # noqa: B018


def test_dir_lists_the_lazy_names():
    import fgseg

    assert "load" in dir(fgseg)
