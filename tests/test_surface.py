"""The public names: removing one fails until `api_surface.json` is edited in the same change."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest

METHODS = ("encode", "heatmaps", "rank", "score_boxes", "segment", "similarity")
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


def test_the_functions_that_others_build_on_are_reached_from_the_package_alone():
    import fgseg

    for function in (
        fgseg.similarity.patch_scores, fgseg.upsample.label_map, fgseg.regions.box_features, fgseg.metrics.confusion,
        fgseg.metrics.iou, fgseg.load, *(getattr(fgseg.Segmenter, name) for name in METHODS),
    ):  # fmt: skip
        assert callable(function)
    assert fgseg.UNLABELLED == -1


def test_every_error_of_the_package_is_a_public_name():
    import fgseg
    from fgseg import errors

    assert set(errors.__all__) <= set(fgseg.__all__)


def test_no_public_name_of_a_package_is_hidden_by_a_module_of_that_name():
    package = Path(__file__).parents[1] / "fgseg"
    for stub in package.rglob("__init__.pyi"):
        nodes = ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        names = {
            alias.name for node in nodes if isinstance(node, ast.ImportFrom) and node.module for alias in node.names
        }
        assert not names & {path.stem for path in stub.parent.glob("*.py")}, stub


def test_an_editable_install_is_a_folder_on_the_path_which_type_checkers_can_follow():
    assert [name for name in sys.modules if name.startswith("__editable___fgseg")] == []
