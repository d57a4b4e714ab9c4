"""Where the regions of a batch run come from, and by which name the run knows them."""

import numpy as np
import pytest

from fgseg.errors import ImageError, OptionError
from fgseg.store.regions import Regions, regions_of


@pytest.fixture
def folder(tmp_path):
    """Region maps of a.jpg and of may/b.jpg."""
    folder = tmp_path / "regions"
    (folder / "may").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"1")
    (folder / "may" / "b.json").write_bytes(b"2")
    return folder


def test_no_regions_and_computed_ones_are_known_by_their_name():
    assert regions_of(None) is None
    for name in ("superpixels", "eomt", "eomt:owner/name"):
        assert regions_of(name) == Regions(name, name)


def test_the_region_map_of_an_image_has_its_name_and_lies_in_the_same_subfolder(folder):
    regions = regions_of(folder)
    assert regions.of("a.jpg") == str(folder / "a.png")
    assert regions.of("may/b.jpg") == str(folder / "may" / "b.json")
    assert regions.of("june/a.jpg") == str(folder / "a.png")  # there is no such subfolder
    assert regions_of(folder / "a.png").of("may/b.jpg") == str(folder / "a.png")
    assert regions_of("superpixels").of("may/b.jpg") == "superpixels"
    with pytest.raises(ImageError, match=r"expected a\.png or a\.json or a\.tif in .*may, got none"):
        regions.of("may/a.jpg")


def test_files_count_by_their_content_wherever_they_lie(folder, tmp_path, monkeypatch):
    before = regions_of(folder)
    (folder / ".DS_Store").touch()
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    moved = regions_of("moved")
    assert moved.name == before.name
    assert moved.source == str(tmp_path / "moved")
    named = regions_of("moved/a.png").name
    assert named == "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # of the digit 1
    assert regions_of("eomt:moved").name == f"eomt:{before.name}"


@pytest.mark.parametrize("change", ["content", "name", "another", "subfolder"])
def test_any_change_of_the_files_is_another_name(folder, change):
    before = regions_of(folder).name
    if change == "content":
        (folder / "a.png").write_bytes(b"3")
    elif change == "name":
        (folder / "a.png").rename(folder / "c.png")
    elif change == "another":
        (folder / "c.png").touch()
    else:
        (folder / "may").rename(folder / "june")
    assert regions_of(folder).name != before


@pytest.mark.parametrize("region_map", ["none.png", "slic", "", np.zeros((2, 2), int), 3])
def test_what_is_no_region_map_of_many_images_is_refused(region_map):
    with pytest.raises(OptionError, match="region_map: expected"):
        regions_of(region_map)
