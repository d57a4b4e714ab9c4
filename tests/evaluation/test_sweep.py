"""Sweeps over grids of settings."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import segmentation_task

import fgseg
from fgseg.datasets.scenes import SWEPT_SEED, open_scenes
from fgseg.errors import OptionError
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.evaluation.tasks.sweep import Grid, SweepTask, with_recipe


def test_a_sweep_gives_the_figures_of_single_runs_and_encodes_an_image_once(seg, tmp_path, monkeypatch):
    dataset = open_scenes("scenes-shapes", count=2, side=48, first_seed=SWEPT_SEED)
    grid = Grid(("value", "sclip"), ("squash:32", "squash:48"), ("none", "guided"), (10.0, 30.0), (0.0, 0.08))
    base = settings_for(seg, dataset)
    calls = []
    original = type(seg.encoder).encode_images
    monkeypatch.setattr(
        type(seg.encoder), "encode_images", lambda self, *a, **k: calls.append(self.recipe) or original(self, *a, **k)
    )
    outcome = run_task(SweepTask(seg, dataset, base, grid), tmp_path / "sweep")
    assert len(calls) == 2 * 2 * 2  # images, recipes, resolutions
    rows = outcome.summary["sweep"]
    assert len(rows) == 32
    for index in (0, 5, 14, 23, 31):
        row = rows[index]
        one = settings_for(
            seg, dataset, resolution=row["resolution"], refine=row["refine"],
            logit_scale=row["logit_scale"], threshold=row["threshold"],
        )  # fmt: skip
        alone = run_task(SegmentationTask(with_recipe(seg, row["recipe"]), dataset, one), tmp_path / str(index))
        np.testing.assert_allclose(row["miou"], alone.summary["table"]["model"]["miou"]["value"])
        np.testing.assert_allclose(row["aacc"], alone.summary["table"]["model"]["aacc"]["value"])
    chosen = outcome.summary["chosen"]
    assert chosen["miou"] == max(row["miou"] for row in rows)
    assert chosen["on"]["name"] == "scenes-shapes"
    assert chosen["on"]["list_sha256"] == outcome.provenance["data"]["list_sha256"]


def test_a_sweep_of_presence_thresholds_gives_the_figures_of_single_runs(seg, tmp_path):
    dataset = open_scenes("scenes-shapes", count=2, side=48)
    base = settings_for(seg, dataset, decision="presence", resolution="squash:32")
    outcome = run_task(SweepTask(seg, dataset, base, Grid(thresholds=(0.3, 0.52))), tmp_path / "sweep")
    for row in outcome.summary["sweep"]:
        alone = run_task(
            segmentation_task(seg, dataset, decision="presence", threshold=row["threshold"]),
            tmp_path / str(row["threshold"]),
        )
        np.testing.assert_allclose(row["miou"], alone.summary["table"]["model"]["miou"]["value"])


def test_a_sweep_of_a_setting_that_changes_no_label_is_refused(seg, colors):
    with pytest.raises(OptionError, match="logit_scale: colors has no background class, so it changes no label"):
        SweepTask(seg, colors, settings_for(seg, colors), Grid(logit_scales=(10.0, 20.0)))


def test_each_row_of_a_sweep_with_a_preset_records_resizing_and_deviations(seg, colors):
    standard_set = replace(colors, name="ade20k")
    base = settings_for(seg, standard_set, preset_name="naclip")
    grid = Grid(("value", "naclip"), ("auto", "slide:32/32/16", "squash:32"), ("none", "pamr"))
    task = SweepTask(seg, standard_set, base, grid)
    for row in task.described:
        assert row["resize"] == ("area" if row["resolution"].startswith("squash") else "published")
        assert ("recipe value in place of naclip" in row["deviations"]) == (row["recipe"] == "value")
        assert any("pamr sees" in line for line in row["deviations"]) == (row["refine"] == "pamr")
        for own in base.deviations:
            assert own in row["deviations"] or own.startswith("recipe ")


@pytest.mark.parametrize("given", [{"refinements": ("none", "none")}, {"thresholds": ()}])
def test_a_grid_needs_each_value_once(given):
    with pytest.raises(OptionError, match=f"{next(iter(given))}: expected one value or more, each once"):
        Grid(**given)


def test_an_unknown_recipe_is_refused_before_anything_is_measured(seg, colors):
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        SweepTask(seg, colors, settings_for(seg, colors), Grid(recipes=("value", "foo")))


def test_the_provenance_of_a_model_includes_the_hash_of_the_code(seg):
    made = model_provenance(seg.encoder)
    assert len(made["code_sha256"]) == 64
    assert {"python", "pycocotools"} <= set(made["versions"])


def test_recipes_share_weights_and_unknown_ones_are_refused(seg):
    other = with_recipe(seg, "naclip")
    assert other.encoder.recipe == "naclip"
    assert other.encoder.model is seg.encoder.model
    assert with_recipe(seg, "value") is seg
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        with_recipe(seg, "best")


def test_recipes_with_a_guide_are_swept_with_those_without(tiny_model, colors):
    seg = fgseg.load(tiny_model, device="cpu", guide="self")
    task = SweepTask(seg, colors, settings_for(seg, colors), Grid(recipes=("value", "proxy", "corr")))
    row = task.measure(next(iter(task.items)))
    assert len(row["counts"]) == 3
    assert task.segmenters["proxy"].encoder.guide is seg.encoder.guide
    assert task.provenance()["model"]["guide"]["name"] == "self"
    unguided = fgseg.load(tiny_model, device="cpu")
    with pytest.raises(OptionError, match="recipe: 'proxy' needs a guide, got none"):
        SweepTask(unguided, colors, settings_for(unguided, colors), Grid(recipes=("value", "proxy")))


def test_a_sweep_varies_propagation_and_the_regions_that_vote(seg, colors, tmp_path):
    grid = Grid(propagations=("none", "both"), region_maps=("none", "superpixels"))
    task = SweepTask(seg, colors, settings_for(seg, colors, resolution="squash:32"), grid)
    rows = run_task(task, tmp_path / "sweep").summary["sweep"]
    assert [(row["propagate"], row["region_map"], row["vote"]) for row in rows] == [
        ("none", "none", False), ("none", "superpixels", True), ("both", "none", False), ("both", "superpixels", True),
    ]  # fmt: skip
    for index, row in enumerate(rows):
        given = {name: row[name] for name in ("propagate", "region_map", "vote")}
        alone = run_task(segmentation_task(seg, colors, **given), tmp_path / str(index))
        np.testing.assert_allclose(row["miou"], alone.summary["table"]["model"]["miou"]["value"])
