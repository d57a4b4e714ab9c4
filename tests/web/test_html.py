"""Pieces of HTML for the page."""

from dataclasses import replace

from random_images import random_image

from fgseg.images.writing import encode_png
from fgseg.web.html import downloads, region_rows
from fgseg.web.limits import SegmentationRequest
from fgseg.web.service import FILES


def test_every_file_has_a_link_with_its_title():
    links = downloads("s3cret")
    assert links.count("<a ") == len(FILES)
    for name, (_, _, title) in FILES.items():
        assert f'href="session/s3cret/{name}" download="{name}">{title}</a>' in links


def test_markup_in_a_prompt_is_escaped(service):
    result = service.segment(service.open(encode_png(random_image()), "a.png"), SegmentationRequest(("red", "blue")))
    summary = dict(result.summary)
    summary["regions"] = [{**summary["regions"][0], "class_name": "<script>alert(1)</script>"}]
    assert "<script>" not in region_rows(replace(result, summary=summary))
    assert "No regions were found" in region_rows(replace(result, summary={**summary, "regions": []}))
