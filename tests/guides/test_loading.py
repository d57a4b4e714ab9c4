"""Guides by name, folder and hub id; encoders with a guide; what a guide sees."""

import shutil
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, GOLDEN, golden_encoder, tiny_guide

import fgseg
from fgseg.encoders import hub as hub_module
from fgseg.encoders.base import Guide, guide_kind, guide_settings
from fgseg.encoders.hub import MAIN, is_commit
from fgseg.encoders.networks.clip import RECIPES
from fgseg.errors import ModelNotFoundError, OptionError, ShapeError, WeightsError
from fgseg.guides.loading import GUIDES, load_guide, with_guide
from fgseg.guides.region_maps import region_map_of
from fgseg.guides.votes import vote
from fgseg.images.label_png import write_label_png

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WINDOWS = "slide:48/32/16"
IMAGE = np.random.RandomState(4).randint(0, 256, (70, 110, 3), dtype=np.uint8)
GUIDED = ("proxy", "corr")


@pytest.fixture(scope="module")
def guide_folder(tmp_path_factory):
    return tiny_guide(tmp_path_factory.mktemp("guides") / "dino")


@pytest.fixture
def hub(tmp_path, monkeypatch, guide_folder):
    """A hub with me/dino, an empty cache, and no waits between two tries."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.0)
    with loopback_hub.running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        server.add("me/dino", guide_folder, COMMIT, "refs/pr/7")
        yield server


class Recording:
    """A guide of a user: one random vector per patch; it keeps what it was asked for."""

    name, revision, patch = "mine", None, 8

    def __init__(self):
        self.asked = []

    def features(self, images, grids_hw, *, kind):
        self.asked.append((len(images), tuple(grids_hw), kind))
        random = np.random.RandomState(1)
        rows = [torch.from_numpy(random.normal(size=(*grid, 5)).astype(np.float32)) for grid in grids_hw]
        return [torch.nn.functional.normalize(row, dim=-1) for row in rows]

    def settings(self, kind):
        return {"name": self.name, "features": kind}


# --- names


def test_known_guides_are_pinned_to_a_commit_or_resolved():
    for name, known in GUIDES.items():
        assert known.repository.count("/") == 1, name
        assert is_commit(known.revision) or known.revision in (MAIN, "refs/pr/7"), name


def test_a_hub_guide_is_fetched_once_without_a_tokenizer_and_records_its_commit(hub):
    guide = load_guide("me/dino", **CPU)
    assert guide.revision == COMMIT
    assert guide.settings("hidden")["revision"] == COMMIT
    assert not hub.asked_for("tokenizer")
    asked = len(hub.requests)
    load_guide("me/dino", **CPU)
    assert len(hub.requests) == asked
    assert load_guide("me/dino", **CPU, offline=True).revision == COMMIT


def test_a_revision_is_named_after_an_at_sign(hub):
    assert load_guide("me/dino@refs/pr/7", **CPU).revision == COMMIT
    assert hub.asked_for("refs/pr/7") or hub.asked_for("refs%2Fpr%2F7")
    with pytest.raises(ModelNotFoundError, match="me/dino at v9"):
        load_guide("me/dino@v9", **CPU)
    with pytest.raises(OptionError, match="guide: expected owner/name@revision, got 'me/dino@'"):
        load_guide("me/dino@", **CPU)


def test_a_guide_whose_weights_are_pickles_says_what_to_do(hub, guide_folder, tmp_path):
    pickled = tmp_path / "pickled"
    shutil.copytree(guide_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    hub.add("me/pickled", pickled, COMMIT)
    with pytest.raises(ModelNotFoundError) as caught:
        load_guide("me/pickled", **CPU)
    assert "pickles only (pytorch_model.bin)" in str(caught.value)
    assert "name it as OWNER/NAME@refs/pr/NUMBER" in str(caught.value)


def test_another_kind_of_model_is_refused_before_its_weights_are_fetched(hub):
    hub.add("me/clip", GOLDEN / CLIP, COMMIT)
    with pytest.raises(WeightsError, match="guide: expected a DINO or DINOv2, got a model of type 'clip'"):
        load_guide("me/clip", **CPU)
    assert not hub.asked_for("model.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", "guide 'nosuch': expected one of dino-b8, .*, a folder that exists, or a hub id owner/name"),
        ("mini", "guide 'mini': expected one of dino-b8"),
        (3, "guide: expected 'self', a name or a folder, got"),
        ("dino-b16", "guide facebook/dino-vitb16 at refs/pr/7: it is not in the cache, .* or use guide 'self'"),
    ],
)
def test_unknown_and_absent_guides_are_one_line(empty_cache, name, message):
    with pytest.raises(ModelNotFoundError, match=message):
        load_guide(name, **CPU, offline=True)


def test_a_folder_of_another_model_is_no_guide():
    with pytest.raises(WeightsError, match="guide: expected the tensors of DINO or DINOv2"):
        load_guide(GOLDEN / CLIP, **CPU)


# --- encoders with a guide


@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
@pytest.mark.parametrize("recipe", GUIDED)
def test_a_guided_recipe_gives_the_grid_of_the_guide(guide_folder, name, recipe):
    encoder = with_guide(golden_encoder(name), guide_folder, recipe=recipe)
    assert encoder.recipe == recipe
    assert isinstance(encoder.guide, Guide)
    patch = encoder.patch
    (dense,) = encoder.encode_images([IMAGE], fit="exact")
    rows, columns = round(70 / patch) * patch, round(110 / patch) * patch  # pixels
    own = rows // patch, columns // patch
    assert dense.grid.shape[:2] == (own if name == FG_CLIP_2 else (rows // 8, columns // 8))
    assert golden_encoder(name).recipe == (None if name == FG_CLIP_2 else "value")  # the first encoder is unchanged


def test_a_guide_leaves_the_features_of_other_recipes_as_they_are():
    plain, guide = golden_encoder(CLIP), Recording()
    (expected,) = plain.encode_images([IMAGE])
    for recipe in ("value", "naclip"):
        encoder = with_guide(plain, guide, recipe=recipe)
        assert encoder.recipe == recipe
        (found,) = encoder.encode_images([IMAGE])
        if recipe == "value":
            assert torch.equal(found.grid, expected.grid)
    assert guide.asked == []


@pytest.mark.parametrize("recipe", GUIDED)
def test_the_batch_changes_nothing(guide_folder, recipe):
    encoder = with_guide(golden_encoder(FG_CLIP), guide_folder, recipe=recipe)
    images = [IMAGE, IMAGE[:, ::-1].copy(), IMAGE[:50, :60].copy()]
    maps = [np.indices(image.shape[:2]).sum(0) // 40 - 1 for image in images]
    options = {"fit": "exact"}
    together = encoder.encode_images(images, **options, regions=maps)
    for image, region, found in zip(images, maps, together, strict=True):
        (alone,) = encoder.encode_images([image], **options, regions=[region])
        np.testing.assert_allclose(found.grid, alone.grid, atol=1e-5)


def test_regions_are_read_at_the_guide_s_patches():
    encoder = with_guide(golden_encoder(CLIP), Recording(), recipe="corr")
    image = IMAGE[:64, :96]
    (free,) = encoder.encode_images([image], fit="exact")
    (none,) = encoder.encode_images([image], fit="exact", regions=[np.full((64, 96), -1)])
    assert torch.equal(free.grid, none.grid)
    (halves,) = encoder.encode_images([image], fit="exact", regions=[np.repeat([[0, 1]], 64, 0).repeat(48, 1)])
    assert not torch.allclose(free.grid, halves.grid, atol=1e-3)
    with pytest.raises(ShapeError, match=r"regions\[0\]: expected an array of shape \(64, 96\)"):
        encoder.encode_images([image], fit="exact", regions=[np.zeros((64, 95), int)])


def test_features_of_a_guide_that_do_not_fit_the_images_are_refused():
    encoder = with_guide(golden_encoder(CLIP), Recording(), recipe="proxy")
    hint = torch.ones(6, 6, 3)
    with pytest.raises(ShapeError, match="guide: expected one grid per image, 2, got 1"):
        encoder.encode_images([IMAGE, IMAGE], guide=[hint])
    with pytest.raises(ShapeError, match=r"guide\[1\]: expected an array of shape \(6, 6, 3\)"):
        encoder.encode_images([IMAGE, IMAGE], guide=[hint, torch.ones(6, 5, 3)])
    with pytest.raises(ShapeError, match=r"guide\[0\]: expected an array of shape \(Hg, Wg, C\)"):
        encoder.encode_images([IMAGE], guide=[torch.ones(6, 6)])


def test_guided_recipes_need_a_guide_and_unknown_ones_are_refused(tiny_model):
    with pytest.raises(OptionError, match="recipe: 'proxy' needs a guide, got none; give guide='self'"):
        fgseg.load(tiny_model, recipe="proxy")
    with pytest.raises(OptionError, match="recipe: 'corr' needs a guide"):
        golden_encoder(CLIP).with_recipe("corr")
    with pytest.raises(OptionError, match=r"recipe: expected one of value, .*, proxy, corr, got 'best'"):
        fgseg.load(tiny_model, recipe="best", guide="self")
    with pytest.raises(OptionError, match="recipe: expected one of value, proxy, corr for this model, got 'naclip'"):
        golden_encoder(FG_CLIP_2).with_recipe("naclip", guide=Recording())
    with pytest.raises(OptionError, match="guide: the encoder was loaded without one"):
        golden_encoder(CLIP).guide_features([IMAGE])


def test_the_features_of_a_guide_depend_on_the_recipe():
    assert [guide_kind(recipe) for recipe in ("proxy", "corr", "value", None)] == [
        "hidden", "query_key", "value", "value",
    ]  # fmt: skip
    for recipe in (*RECIPES, *GUIDED):
        guide = Recording()
        encoder = with_guide(golden_encoder(CLIP), guide, recipe=recipe)
        encoder.guide_features([IMAGE])
        assert guide.asked[0][2] == guide_kind(recipe)


def test_settings_name_the_guide_and_the_published_numbers(guide_folder):
    assert guide_settings(golden_encoder(CLIP)) == {}
    made = guide_settings(with_guide(golden_encoder(CLIP), guide_folder, recipe="proxy"))["guide"]
    assert made.pop("weights_sha256") == load_guide(guide_folder, **CPU).checkpoint.digest()
    expected = {"name": guide_folder, "revision": None, "features": "hidden", "beta": 1.2, "gamma": 3.0}
    assert made == expected
    made = guide_settings(with_guide(golden_encoder(CLIP), Recording(), recipe="corr"))["guide"]
    assert made == {"name": "mine", "features": "query_key", "scale": 4.0, "distance": 0.2}


# --- results


@pytest.mark.parametrize("recipe", ["value", *GUIDED])
def test_a_guide_sees_each_window_once_and_is_kept_with_the_image(recipe, tiny_model):
    guide = Recording()
    seg = fgseg.load(tiny_model, device="cpu", dtype="float32", guide=guide, recipe=recipe)
    view = seg.encode(IMAGE, resolution=WINDOWS)
    assert [count for count, _, _ in guide.asked] == [len(view.windows)]
    assert view.guided_by == "mine"
    for hint, window in zip(view.guide, view.windows, strict=True):
        assert hint.shape == (4, 4, 5)
        assert window.grid.shape[:2] == (4, 4)
        np.testing.assert_allclose(hint.norm(dim=-1), 1, atol=1e-5)
    result = seg.segment(view, ["red", "blue"])
    assert len(guide.asked) == 1
    assert result.settings["guide"]["name"] == "mine"


def test_results_without_a_guide_do_not_speak_of_one(tiny_model):
    seg = fgseg.load(tiny_model, device="cpu")
    view = seg.encode(IMAGE, resolution=WINDOWS)
    assert (view.guide, view.guided_by, view.region_map) == (None, None, None)
    assert "guide" not in seg.segment(view, ["red", "blue"]).settings


def test_an_image_of_another_guide_is_refused(tiny_model):
    view = fgseg.load(tiny_model, device="cpu").encode(IMAGE, resolution=WINDOWS)
    seg = fgseg.load(tiny_model, device="cpu", guide="self")
    with pytest.raises(OptionError, match=r"encoded with .*; this is .*, guide self; encode it again"):
        seg.segment(view, ["red", "blue"])


def test_region_maps_are_cut_with_the_windows(tiny_model):
    seg = fgseg.load(tiny_model, device="cpu", dtype="float32", guide=Recording(), recipe="corr")
    regions = np.indices(IMAGE.shape[:2]).sum(0) // 50 - 1
    view = seg.encode(IMAGE, region_map=regions, resolution=WINDOWS)
    assert np.array_equal(view.region_map, regions)
    canvas = regions[np.arange(view.canvas_hw[0]) * 70 // view.canvas_hw[0]]
    canvas = canvas[:, np.arange(view.canvas_hw[1]) * 110 // view.canvas_hw[1]]
    for box, window in zip(view.boxes_xyxy, view.windows, strict=True):
        left, top, right, bottom = box
        (alone,) = fgseg_window(seg, view, box, canvas[top:bottom, left:right])
        np.testing.assert_allclose(window.grid, alone.grid, atol=1e-5)
    labels = seg.segment(IMAGE, ["red", "blue"], region_map=regions, resolution=WINDOWS).labels
    assert np.array_equal(labels, seg.segment(view, ["red", "blue"]).labels)
    maps = seg.heatmaps(IMAGE, ["red", "blue"], region_map=regions, resolution=WINDOWS)
    np.testing.assert_array_equal(maps["red"], seg.heatmaps(view, ["red", "blue"])["red"])


def fgseg_window(seg, view, box, regions):
    """One window of a view, encoded with its own part of the region map and the guide's features of that window."""
    from fgseg.images.resizing import resize_image

    left, top, right, bottom = box
    pixels = resize_image(IMAGE, view.canvas_hw, antialias=True)[top:bottom, left:right]
    hint = view.guide[view.boxes_xyxy.index(box)]
    return seg.encoder.encode_images([pixels], fit="exact", guide=[hint], regions=[regions])


def test_region_maps_that_do_not_fit_are_refused(tiny_model):
    seg = fgseg.load(tiny_model, device="cpu", guide="self", recipe="corr")
    with pytest.raises(ShapeError, match=r"region_map: expected an array of shape \(70, 110\)"):
        seg.encode(IMAGE, region_map=np.zeros((110, 70), int))
    with pytest.raises(ShapeError, match="region_map: expected integers, the number of each pixel's region, got"):
        seg.encode(IMAGE, region_map=np.zeros((70, 110)))
    view = seg.encode(IMAGE, region_map=np.zeros((70, 110), int), resolution=WINDOWS)
    with pytest.raises(OptionError, match="region_map: the image was encoded with another or none"):
        seg.segment(view, ["red", "blue"], region_map=np.arange(7700).reshape(70, 110) // 4000)
    seg.segment(view, ["red", "blue"], region_map=np.ones((70, 110), int))  # the same regions, numbered otherwise
    plain = fgseg.load(tiny_model, device="cpu")
    with pytest.raises(OptionError, match="region_map: the recipe 'value' does not use regions"):
        plain.encode(IMAGE, region_map=np.zeros((70, 110), int))
    with pytest.raises(OptionError, match="region_map: nothing uses the regions unless they vote"):
        plain.segment(IMAGE, ["red", "blue"], region_map=np.zeros((70, 110), int))


@pytest.mark.parametrize("recipe", GUIDED)
def test_boxes_and_large_images_go_through_the_guide_too(tiny_model, recipe, tmp_path):
    import tifffile

    seg = fgseg.load(tiny_model, device="cpu", dtype="float32", guide="self", recipe=recipe)
    rows = seg.score_boxes(IMAGE, [[0, 0, 50, 60]], ["red", "blue"])
    assert np.isfinite(rows.cosine).all()
    tifffile.imwrite(tmp_path / "big.tif", IMAGE, tile=(16, 16))
    sizes = {"resolution": "slide:70/32/16"}
    large = seg.segment_large(
        tmp_path / "big.tif", ["red", "blue"], tmp_path / "labels.tif", resolution="slide:auto/32/16"
    )
    assert large.settings["guide"]["name"] == "self"
    plan = {"min_area": 0, "max_hole": 0, "refine": "none"}
    expected = seg.segment(IMAGE, ["red", "blue"], **sizes, **plan).labels
    found = tifffile.imread(Path(tmp_path / "labels.tif"))
    assert (found == np.where(expected < 0, 255, expected)).mean() > 0.999


@pytest.mark.parametrize("regions", ["superpixels", "file"])
def test_corr_mixes_within_regions_of_every_kind_and_they_may_vote_too(regions, tiny_model, tmp_path):
    seg = fgseg.load(tiny_model, device="cpu", guide="self", recipe="corr")
    array = np.arange(70 * 110).reshape(70, 110) // 2500
    if regions == "file":
        regions = str(tmp_path / "regions.png")
        write_label_png(regions, array, colors=[(0, 0, 0)] * 4)
    else:
        array = region_map_of("superpixels", IMAGE, patch_pixels=seg.encode(IMAGE, region_map=regions).patch_pixels)
    every_speck = {"min_area": 0, "max_hole": 0}
    result = seg.segment(IMAGE, ["red", "blue"], region_map=regions, vote=True, **every_speck)
    expected = seg.segment(IMAGE, ["red", "blue"], region_map=array, **every_speck)
    assert (result.labels == vote(expected.labels, array)).all()
    view = seg.encode(IMAGE, region_map=regions)
    assert (view.region_map == array).all()
    assert view.regions_from == regions
    seg.segment(view, ["red"], region_map=regions, background=["blue"])
    (together,) = seg.encode_batch([IMAGE], region_maps=[regions])
    assert (together.region_map == array).all()
    with pytest.raises(OptionError, match="region_map: the image was encoded with another or none"):
        seg.segment(view, ["red"], region_map=array, background=["blue"])


def test_only_corr_takes_regions_when_images_are_encoded(tiny_model):
    seg = fgseg.load(tiny_model, device="cpu", guide="self", recipe="proxy")
    with pytest.raises(OptionError, match="region_map: the recipe 'proxy' does not use regions"):
        seg.encode_batch([IMAGE], region_maps=["superpixels"])
    corr = fgseg.load(tiny_model, device="cpu", guide="self", recipe="corr")
    with pytest.raises(OptionError, match="region_maps: expected one per image, 1, got 2"):
        corr.encode_batch([IMAGE], region_maps=["superpixels"] * 2)
