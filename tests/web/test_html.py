"""Values for the scripts of the page, and pieces of HTML."""

import base64
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from random_images import random_image

from fgseg.images.writing import encode_png
from fgseg.web.html import REGIONS_SHOWN, downloads, masks, region_rows, word_chips
from fgseg.web.limits import SegmentationRequest
from fgseg.web.service import FILES


@pytest.fixture
def segmented(service):
    """Segments a random image; returns its session and its result."""

    def made(image=None, **options):
        secret = service.open(encode_png(random_image() if image is None else image), "a.png")
        result = service.segment(secret, SegmentationRequest(("red", "blue"), **options))
        return service.sessions.get(secret), result

    return made


def unpacked(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def test_every_file_has_a_link_with_its_title():
    links = downloads("s3cret")
    assert links.count("<a ") == len(FILES)
    for name, (_, _, title) in FILES.items():
        assert f'href="session/s3cret/{name}" download="{name}">{title}</a>' in links


def test_markup_in_a_prompt_is_escaped(segmented):
    _, result = segmented()
    summary = dict(result.summary)
    summary["regions"] = [{**summary["regions"][0], "class_name": "<script>alert(1)</script>"}]
    assert "<script>" not in region_rows(replace(result, summary=summary))
    assert "No regions were found" in region_rows(replace(result, summary={**summary, "regions": []}))


def test_regions_are_listed_by_area_and_no_class_is_left_out(segmented):
    _, result = segmented()
    region = result.summary["regions"][0]

    def of(class_index, area):
        return {**region, "class_index": class_index, "class_name": ("red", "blue")[class_index], "area": area}

    summary = {**result.summary, "regions": [*(of(0, 1000 - k) for k in range(150)), of(1, 7), of(1, 3)]}
    table = region_rows(replace(result, summary=summary))
    areas = [int(area.replace(",", "")) for area in re.findall(r"<td>([\d,]+) px", table)]
    assert areas == [*range(1000, 1000 - REGIONS_SHOWN, -1), 7]
    assert "51 more regions are in regions.csv" in table
    table = region_rows(replace(result, summary={**summary, "regions": [of(1, 7), of(1, 9)]}))
    assert re.findall(r"<td>([\d,]+) px", table) == ["9", "7"]
    assert '<td>red</td><td colspan="4">not found</td>' in table


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_the_browser_gets_labels_presence_and_masks(segmented, mode):
    session, result = segmented(mode=mode)
    value, preview = masks(result, session), result.preview
    assert (value["width"], value["height"], value["imageWidth"], value["imageHeight"]) == (60, 40, 60, 40)
    labels = unpacked(value["labels"], "<u2").reshape(40, 60)
    assert (np.where(labels == 65535, -1, labels.astype(int)) == preview.labels).all()
    percent = unpacked(value["presence"], np.uint8).reshape(40, 60)
    assert (percent[preview.labels < 0] == 0).all()
    for index, name in enumerate(preview.classes):
        chosen = preview.labels == index
        np.testing.assert_allclose(percent[chosen] / 100, preview.scores[name][chosen], atol=0.00501)  # rounded
    if mode == "exclusive":
        assert value["overlapping"] is None
    else:
        bits = np.unpackbits(unpacked(value["overlapping"], np.uint8))[: 2 * 40 * 60].reshape(2, 40, 60)
        assert (bits == np.stack([preview.masks[name] for name in preview.classes])).all()


def test_what_the_browser_gets_for_a_large_image_is_bounded(segmented):
    session, result = segmented(np.zeros((1500, 3000, 3), np.uint8))
    value = masks(result, session)
    assert (value["width"], value["height"], value["imageWidth"], value["imageHeight"]) == (1024, 512, 3000, 1500)


def test_chips_escape_their_words_and_name_the_command_of_a_full_model():
    chips = word_chips("tiny", 3, {"colours": ("red", "<b>"), "shapes": ("star",)})
    assert chips.count("<button") == 3
    assert "&lt;b&gt;" in chips
    assert "tiny knows only colours, shapes." in chips
    assert "tiny knows only 3 words." in word_chips("tiny", 3, {})
    assert "<code>fgseg serve --model fg-clip-base</code>" in chips
