"""The reports of `fgseg models` and `fgseg doctor`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny_models import CLIP, with_tokenizer

from fgseg._version import __version__
from fgseg.commands import doctor as diagnosis
from fgseg.commands.doctor import diagnose, guide_list, model_card, model_list
from fgseg.encoders.checkpoint import MODELS, find_checkpoint
from fgseg.errors import ModelNotFoundError, WeightsError
from fgseg.guides.loading import GUIDES


@pytest.fixture(autouse=True)
def no_model_in_the_environment(monkeypatch):
    monkeypatch.delenv("FGSEG_MODEL", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_every_named_model_is_listed_with_the_place_of_its_weights(empty_cache):
    listed = model_list()
    assert [entry["name"] for entry in listed] == list(MODELS)
    assert [entry["weights"] for entry in listed] == ["in the package", *["not here"] * (len(MODELS) - 1)]
    assert all(entry["about"] for entry in listed)


def test_every_guide_is_listed_and_has_a_card(empty_cache):
    listed = guide_list()
    assert [entry["name"] for entry in listed] == ["self", *GUIDES]
    assert {entry["weights"] for entry in listed[1:]} == {"not here"}
    assert all(entry["licence"] and entry["size"] for entry in listed)
    card = model_card("dinov2-b14")
    assert (card["repository"], card["licence"]) == ("facebook/dinov2-base", "Apache 2.0")


def test_the_card_of_a_folder_describes_its_tensors(tiny_model):
    card = model_card(tiny_model)
    assert list(card) == ["name", "family", "parameters", "revision", "sha256", "words"]
    assert (card["name"], card["family"], card["parameters"]) == (tiny_model, "FG-CLIP 1", "0.0 million")
    assert card["revision"] is None
    assert card["sha256"] == find_checkpoint(tiny_model).digest()
    assert {"red", "blue", "circle"} <= set(card["words"])


def test_the_card_of_the_embedded_model_counts_its_parameters():
    count, unit = model_card("mini")["parameters"].split()
    assert unit == "million"
    assert 1 < float(count) < 10  # a few million, under 12 MB in bfloat16


def test_the_card_of_a_hub_model_without_weights_has_repository_and_revision(empty_cache):
    card = model_card("fg-clip-base")
    assert card["repository"] == "qihoo360/fg-clip-base"
    assert card["revision"] == MODELS["fg-clip-base"].revision
    assert card["weights"].startswith("not here")
    assert model_card("fg-clip2-base")["revision"] == MODELS["fg-clip2-base"].revision


def test_the_card_of_a_model_without_a_tokenizer_says_so(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    assert model_card(str(tmp_path / "mute"))["words"] == "none: the folder has no tokenizer"


def test_the_card_of_an_unknown_or_damaged_model_is_refused(tiny_model, tmp_path, empty_cache):
    with pytest.raises(ModelNotFoundError, match="model 'nosuch': expected one of mini"):
        model_card("nosuch")
    with pytest.raises(ModelNotFoundError, match=r"found no config\.json"):
        model_card(str(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"model owner/name: .*not in the cache"):
        model_card("owner/name")
    shutil.copytree(tiny_model, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        model_card(str(tmp_path / "cut"))


def test_a_healthy_machine_has_no_problems_and_the_report_is_json(tiny_model):
    report = diagnose(tiny_model, device="cpu", dtype="auto")
    assert report["problems"] == []
    assert json.loads(json.dumps(report)) == report
    assert report["fgseg"] == __version__
    assert {"python", "system", "torch", "transformers", "pillow", "opencv-python", "supervision"} <= set(report)
    assert report["device"].startswith("cpu (")
    assert report["dtype"] in ("float32", "bfloat16")
    assert report["dtype"] == {"yes": "bfloat16", "no": "float32"}[report["fast bfloat16 on this CPU"]]
    assert (report["model"], report["offline"]) == (tiny_model, "no")
    assert report["weights"] == f"here ({Path(tiny_model)})"


def test_the_model_comes_from_the_environment_unless_one_is_given(tiny_model, monkeypatch):
    assert diagnose(None, device="cpu", dtype="auto")["model"] == "mini"
    monkeypatch.setenv("FGSEG_MODEL", tiny_model)
    assert diagnose(None, device="cpu", dtype="auto")["model"] == tiny_model
    assert diagnose("mini", device="cpu", dtype="auto")["weights"] == "in the package"


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("cuda:97", "auto", "device: 'cuda:97' is not on this machine"),
        ("nonsense", "auto", "device: expected auto, cpu, cuda"),
        ("cpu", "int8", "dtype: expected one of auto, float32"),
    ],
)
def test_an_unavailable_device_or_dtype_is_a_problem(tiny_model, device, dtype, message):
    (problem,) = diagnose(tiny_model, device=device, dtype=dtype)["problems"]
    assert message in problem


def test_a_hub_model_without_weights_is_a_problem(empty_cache):
    report = diagnose("fg-clip-base", device="cpu", dtype="auto")
    assert report["weights"] == "not here"
    assert report["problems"] == [
        "model fg-clip-base: its weights are not on this machine; they are downloaded at first use"
    ]


def test_a_folder_without_weights_and_one_with_damaged_weights_are_problems(tiny_model, tmp_path):
    (tmp_path / "empty").mkdir()
    (problem,) = diagnose(str(tmp_path / "empty"), device="cpu", dtype="auto")["problems"]
    assert "found no config.json" in problem
    shutil.copytree(tiny_model, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"nothing")
    (problem,) = diagnose(str(tmp_path / "cut"), device="cpu", dtype="auto")["problems"]
    assert "expected a safetensors file" in problem
    (tmp_path / "cut" / "model.safetensors").unlink()
    (tmp_path / "cut" / "model.safetensors.index.json").write_text("[]")
    report = diagnose(str(tmp_path / "cut"), device="cpu", dtype="auto")
    assert report["weights"] == "damaged"
    assert len(report["problems"]) == 1


def test_a_missing_package_is_a_problem_and_a_missing_optional_one_is_not(tiny_model, monkeypatch):
    real = diagnosis.version_of
    gone = {"scikit-image", "supervision"}
    monkeypatch.setattr(diagnosis, "version_of", lambda name: None if name in gone else real(name))
    report = diagnose(tiny_model, device="cpu", dtype="auto")
    assert report["scikit-image"] == report["supervision"] == "not installed"
    assert report["problems"] == ["scikit-image is not installed: pip install scikit-image"]


@pytest.mark.parametrize(("value", "said"), [("1", "yes"), ("true", "yes"), ("0", "no"), ("", "no")])
def test_offline_is_read_as_huggingface_hub_reads_it(tiny_model, monkeypatch, value, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert diagnose(tiny_model, device="cpu", dtype="auto")["offline"] == said


def test_a_headless_opencv_counts_as_opencv(monkeypatch):
    from fgseg import _version

    def installed(name):
        if name == "opencv-python-headless":
            return "4.12.0"
        raise _version.PackageNotFoundError(name)

    monkeypatch.setattr(_version, "version", installed)
    assert _version.version_of("opencv-python") == "4.12.0"
    assert _version.version_of("numpy") is None


def test_the_report_has_the_place_of_the_text_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path))
    assert str(tmp_path) in diagnose("mini", device="cpu", dtype="auto")["text cache"]
    monkeypatch.setenv("FGSEG_CACHE", "off")
    assert diagnose("mini", device="cpu", dtype="auto")["text cache"] == "off"


def test_an_unusable_text_cache_is_reported_but_is_no_problem(monkeypatch, tmp_path):
    def note(folder):
        monkeypatch.setenv("FGSEG_CACHE", str(folder))
        report = diagnose("mini", device="cpu", dtype="auto")
        assert report["problems"] == []
        return report["text cache"].partition("; not in use, so texts are encoded every time: ")[2]

    (tmp_path / "file").write_text("")
    assert note(tmp_path / "new" / "folder") == ""
    assert note(tmp_path / "file") == f"{tmp_path / 'file'} is a file"
    assert "File name too long" in note(tmp_path / ("y" * 300))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert note(tmp_path / "new") == f"no permission to write into {tmp_path}"


def test_an_empty_model_name_does_not_mean_the_default_model():
    report = diagnose("", device="cpu", dtype="auto")
    assert report["model"] == ""
    assert "model '': expected one of mini" in report["problems"][0]


@pytest.mark.parametrize(
    ("break_", "problem"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (
            lambda folder: _edit(folder, fgseg={"threshold": 2}),
            r"threshold: expected a number from 0 to 1, got 2",
        ),
        (lambda folder: _edit(folder, projection_dim=7), "expected shape"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_problem(tmp_path, break_, problem):
    folder = Path(with_tokenizer(tmp_path / "own", CLIP))
    assert diagnosis.diagnose(str(folder), device="cpu", dtype="float32")["problems"] == []
    break_(folder)
    (found,) = diagnosis.diagnose(str(folder), device="cpu", dtype="float32")["problems"]
    assert re.search(problem, found)


def _edit(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").unlink()  # a link to the golden one
    (folder / "config.json").write_text(json.dumps(config))
