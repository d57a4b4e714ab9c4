"""The Ray engine on a cluster of two nodes: the rows of a plain loop, deaths, errors, and nothing on stdout."""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_images import FORTY, write_forty
from batch_jobs import PoisonJob
from batch_runs import SETTINGS, WORDS, files_of, looped_rows, stored_rows

import fgseg
from fgseg.errors import BatchError, OptionError
from fgseg.images.writing import write_image
from fgseg.prompts.classes import parse_classes
from fgseg.segmenter import load
from fgseg.store.batch import BatchRequest, EngineOptions, plan_batch, run_plan
from fgseg.store.engines import ray_engine
from fgseg.store.units import UnitOptions

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray warns of its own use of other packages


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes with a core each, whose processes find the modules of the tests."""
    tests = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests.parent), str(tests)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def plan(address, tiny_model, tmp_path):
    """A plan over three images, one of which is poisonous for a `PoisonJob`."""
    folder = tmp_path / "three"
    folder.mkdir()
    for level, name in enumerate(("a.png", "b_poison.png", "c.png")):
        write_image(folder / name, np.full((16, 24, 3), 60 * level, np.uint8))
    model = {"model": tiny_model, "dtype": "float32", "device": "cpu"}
    options, engine = UnitOptions(parse_classes(WORDS), SETTINGS), EngineOptions("ray", address=address)
    return plan_batch(load(**model), BatchRequest([folder], str(tmp_path / "store"), model, options, engine=engine))


def test_two_nodes_make_the_rows_of_a_plain_loop_and_print_nothing(address, tiny_model, tmp_path, capfd):
    folder = write_forty(tmp_path / "forty")
    report = fgseg.batch(
        [folder], WORDS, tmp_path / "store", model=tiny_model, dtype="float32", recursive=True, unit_size=8,
        engine="ray", address=address, **SETTINGS,
    )  # fmt: skip
    assert (report.done, report.failed) == (FORTY - 2, 2)
    assert stored_rows(tmp_path / "store") == looped_rows(folder, tiny_model)
    assert [name for name in files_of(tmp_path / "store") if name.startswith("attempts")] == []
    assert capfd.readouterr().out == ""


def test_an_image_that_kills_its_actors_gets_an_error_row(plan, tmp_path):
    report = run_plan(replace(plan, job=PoisonJob(**vars(plan.job))))
    assert (report.done, report.failed) == (2, 1)
    assert stored_rows(tmp_path / "store")["b_poison.png"]["error_type"] == "ProcessDied"


def test_an_error_of_a_worker_ends_the_run_as_that_error(plan):
    job = replace(plan.job, model={**plan.job.model, "recipe": "vanilla"})
    with pytest.raises(BatchError, match="another run than was planned"):
        run_plan(replace(plan, job=job))


def test_an_address_without_a_cluster_is_refused(plan):
    engine = EngineOptions("ray", address="127.0.0.1:1")
    with pytest.raises(
        OptionError, match=r"address: no Ray cluster at '127\.0\.0\.1:1' .*; start one by `ray start --head`"
    ):
        run_plan(replace(plan, request=replace(plan.request, engine=engine)))


def test_a_cluster_that_does_not_let_us_in_may_ask_for_a_token(plan, monkeypatch):
    import ray

    def refused(**_):
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(OptionError, match=r"\(Failed to connect\); if the cluster asks for a token, set RAY_AUTH_MODE"):
        run_plan(plan)


def test_a_cluster_that_cannot_be_started_here_is_no_wrong_option(plan, monkeypatch):
    import ray

    def slow(**_):
        raise Exception("The current node\n timed out")  # what Ray raises on a machine that is very busy

    monkeypatch.setattr(ray, "init", slow)
    here = replace(plan.request, engine=EngineOptions("ray", address="local"))
    with pytest.raises(BatchError, match=r"^ray: Exception: The current node timed out; give the same command again"):
        run_plan(replace(plan, request=here))


def test_what_ray_raises_before_the_first_unit_stops_the_run_too(plan, monkeypatch):
    def lost(*_):
        raise RuntimeError("the cluster is gone")

    monkeypatch.setattr(ray_engine, "_places", lost)
    with pytest.raises(BatchError, match=r"^ray: RuntimeError: the cluster is gone; give the same command again"):
        run_plan(plan)


def test_without_ray_the_message_says_what_to_install(plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r'expected the package ray, got none; pip install "fgseg\[ray\]"'):
        run_plan(plan)
