import json

import numpy as np
import pytest
import torch
from PIL import Image

from fgseg.errors import DatasetError, ImageError, ModelNotFoundError, OptionError, ShapeError
from fgseg.formats.coco import coco_annotations
from fgseg.guides import mask_model
from fgseg.guides.region_maps import is_computed, named_region_map, region_map_for, region_map_of
from fgseg.regions.table import region_table
from fgseg.scoring.superpixels import superpixels

IMAGE = np.random.RandomState(2).randint(0, 256, (20, 30, 3), dtype=np.uint8)


def regions_of(region_map, image=IMAGE):
    return region_map_of(region_map, image, patch_pixels=5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_regions_are_counted_in_the_order_of_their_numbers(dtype):
    given = np.zeros((20, 30), dtype)
    given[:, 10:], given[5:] = 90, 7
    found = regions_of(given)
    assert found.dtype == np.int32
    assert [int(found[given == number][0]) for number in (0, 7, 90)] == [0, 1, 2]


def test_negative_numbers_are_no_region_and_zero_is_one():
    given = np.full((20, 30), -5)
    given[0], given[1], given[2] = -1, 0, 3
    np.testing.assert_array_equal(regions_of(given)[:4, 0], [-1, 0, 1, -1])


def test_a_label_png_gives_its_values_and_255_is_no_region(tmp_path):
    stored = np.full((20, 30), 255, np.uint8)
    stored[:4], stored[4:8] = 9, 2
    Image.fromarray(stored).save(tmp_path / "regions.png")
    found = regions_of(tmp_path / "regions.png")
    np.testing.assert_array_equal(found[[0, 4, 8], 0], [1, 0, -1])


def test_16_bit_files_hold_many_regions(tmp_path):
    stored = (np.arange(600, dtype=np.uint16) + 1000).reshape(20, 30)
    Image.fromarray(stored).save(tmp_path / "regions.png")
    np.testing.assert_array_equal(regions_of(str(tmp_path / "regions.png")).ravel(), np.arange(600))


def coco_file(path, masks):
    scores = {name: np.ones((20, 30), np.float32) for name in masks}
    document = coco_annotations(masks, region_table(masks, scores), image_hw=(20, 30), file_name="a.png")
    path.write_text(json.dumps(document), encoding="utf-8")
    return document


def test_coco_masks_are_regions_and_the_smaller_lies_on_top(tmp_path):
    masks = {"small": np.zeros((20, 30), bool), "large": np.zeros((20, 30), bool)}
    masks["small"][4:6, 4:6] = True
    masks["large"][2:10, 2:10] = True
    coco_file(tmp_path / "a.json", masks)
    found = regions_of(tmp_path / "a.json")
    expected = np.where(masks["small"], 0, np.where(masks["large"], 1, -1))
    np.testing.assert_array_equal(found, expected)


def test_polygons_are_regions(tmp_path):
    ring = [5, 5, 15, 5, 15, 12, 5, 12]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [{"segmentation": [ring], "image_id": 3}]}))
    found = regions_of(tmp_path / "a.json")
    assert found[8, 10] == 0
    assert found[0, 0] == -1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"annotations": [{"image_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]},
                          {"image_id": 2, "segmentation": [[0, 0, 3, 0, 3, 3]]}]},
         "expected the masks of one image, got those of 2; split it"),
        ({"masks": []}, "expected an object with `annotations`"),
        ({"annotations": [{"image_id": 1, "segmentation": [[0, 0, 900, 0, 3, 3]]}]}, "expected corners"),
        ({"annotations": [{"image_id": 1, "segmentation": {"size": [9, 9], "counts": [81]}}]}, "the image has"),
    ],
)  # fmt: skip
def test_other_documents_are_refused(document, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        regions_of(tmp_path / "a.json")


def test_superpixels_are_those_that_scores_are_refined_by():
    found = regions_of("superpixels")
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    np.testing.assert_array_equal(found, superpixels(IMAGE, patch_pixels=5))


@pytest.mark.parametrize(
    ("region_map", "error", "message"),
    [
        (np.zeros((20, 30)), ShapeError, "region_map: expected integers"),
        (np.zeros((20, 30), bool), ShapeError, "region_map: expected integers"),
        (np.zeros((30, 20), int), ShapeError, r"region_map: expected an array of shape \(20, 30\).*as large as the im"),
        (
            "superpixel",
            OptionError,
            "region_map: expected an integer array.*\"superpixels\".*got 'superpixel', which is",
        ),
        ("", OptionError, "region_map: expected an integer array"),
        (7, OptionError, "region_map: expected an integer array"),
        (
            "eomt:nowhere/at/all",
            ModelNotFoundError,
            "region_map: expected the folder or the hub id of an EoMT, got 'no",
        ),
    ],
)
def test_what_is_no_region_map_is_refused(region_map, error, message):
    with pytest.raises(error, match=message):
        regions_of(region_map)


def test_files_that_are_no_label_maps_are_refused(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    with pytest.raises(ImageError, match="expected a label map"):
        regions_of(tmp_path / "photo.png")


def test_region_maps_have_a_name_for_the_record(tmp_path):
    assert named_region_map(tmp_path / "a.png") == str(tmp_path / "a.png")
    assert named_region_map("eomt:tiny") == "eomt:tiny"
    assert is_computed("eomt:tiny")
    assert not is_computed(np.zeros((2, 2), int))


def test_a_folder_holds_a_region_map_for_each_image(tmp_path):
    (tmp_path / "cup.json").touch()
    (tmp_path / "red.cup.png").touch()
    assert region_map_for(str(tmp_path), "photos/cup.jpg") == str(tmp_path / "cup.json")
    assert region_map_for(str(tmp_path), "photos/red.cup.jpg") == str(tmp_path / "red.cup.png")
    assert region_map_for("superpixels", "photos/cup.jpg") == "superpixels"
    with pytest.raises(
        OptionError, match=r"region_map: expected saucer.png or saucer.json or saucer.tif in .*got none"
    ):
        region_map_for(str(tmp_path), "saucer.jpg")


def test_images_of_one_name_take_the_region_map_of_their_own_subfolder(tmp_path):
    regions, photos = tmp_path / "regions", tmp_path / "photos"
    for place in (regions, regions / "may", regions / "old" / "may"):
        place.mkdir(parents=True)
        (place / "cup.png").touch()
    (regions / "june").mkdir()
    for image, place in (("may/cup.jpg", "may"), ("old/may/cup.jpg", "old/may"), ("july/cup.jpg", ""), ("cup.jpg", "")):
        assert region_map_for(str(regions), str(photos / image)) == str(regions / place / "cup.png")
    assert region_map_for(str(regions), "../may/cup.jpg") == str(regions / "may" / "cup.png")
    assert region_map_for(str(regions), "../cup.jpg") == str(regions / "cup.png")
    with pytest.raises(OptionError, match=r"expected cup.png or cup.json or cup.tif in .*june, got none"):
        region_map_for(str(regions), str(photos / "june" / "cup.jpg"))


@pytest.fixture(scope="module")
def tiny_eomt(tmp_path_factory):
    """The folder of a random EoMT, as transformers saves it."""
    from transformers import EomtConfig, EomtForUniversalSegmentation
    from transformers.models.eomt import EomtImageProcessorPil

    folder = tmp_path_factory.mktemp("eomt")
    torch.manual_seed(0)
    config = EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=64, patch_size=16,
        num_blocks=1, num_queries=7, num_labels=5, num_upscale_blocks=1, num_register_tokens=2,
    )  # fmt: skip
    model = EomtForUniversalSegmentation(config)
    model.class_predictor.weight.data.mul_(40)  # so that some queries are sure enough to be kept
    model.save_pretrained(folder)
    EomtImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True).save_pretrained(folder)
    return folder


def test_the_segments_of_a_mask_model_are_regions(tiny_eomt):
    from transformers import EomtForUniversalSegmentation
    from transformers.models.eomt import EomtImageProcessorPil

    model = EomtForUniversalSegmentation.from_pretrained(tiny_eomt).eval()
    processor = EomtImageProcessorPil.from_pretrained(tiny_eomt)
    with torch.no_grad():
        outputs = model(pixel_values=processor(images=IMAGE, return_tensors="pt")["pixel_values"])
    (expected,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[(20, 30)])
    found = regions_of(f"eomt:{tiny_eomt}")
    assert found.max() >= 0
    np.testing.assert_array_equal(found < 0, expected["segmentation"] < 0)
    pairs = set(zip(found.ravel().tolist(), expected["segmentation"].ravel().tolist(), strict=True))
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


@pytest.mark.parametrize(("is_here", "expected"), [(True, [True]), (False, [True, False])])
def test_a_mask_model_on_this_machine_is_used_without_asking_the_hub(tiny_eomt, monkeypatch, is_here, expected):
    asked, read = [], mask_model._read

    def reading(name, *, local):
        asked.append(local)
        if local and not is_here:
            raise OSError("not in the cache")
        return read(name, local=True)

    monkeypatch.setattr(mask_model, "_read", reading)
    mask_model._loaded.cache_clear()
    assert regions_of(f"eomt:{tiny_eomt}").max() >= 0
    assert asked == expected


def test_a_mask_model_that_lacks_tensors_is_refused(tiny_eomt, tmp_path):
    from safetensors.torch import load_file, save_file

    from fgseg.errors import WeightsError

    for file in tiny_eomt.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["class_predictor.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"expected the tensors of an EoMT, got none for class_predictor.weight"):
        regions_of(f"eomt:{tmp_path}")
