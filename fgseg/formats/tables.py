"""Regions as tables: JSON and CSV."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from fgseg.types import Region

__all__ = ["regions_csv", "regions_json"]

_CSV_COLUMNS = (
    "class_name,class_index,left,top,right,bottom,area,centroid_y,centroid_x,mean_score,peak_score,holes"
).split(",")


def regions_json(regions: Sequence[Region]) -> str:
    """The region table as JSON: a list of objects with the fields of `Region`; "[]" without regions.

    Args:
        regions: the table.

    Returns:
        The text of the file; reading its numbers gives the same floats.

    >>> region = Region("cat", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.75, 1.0, 0)
    >>> json.loads(regions_json([region]))[0]["box_xyxy"]
    [0, 0, 2, 1]
    """
    return json.dumps([asdict(region) for region in regions], ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def regions_csv(regions: Sequence[Region]) -> str:
    """The region table as CSV: a header, then one row for each region.

    Args:
        regions: the table.

    Returns:
        The text of the file, with commas, quotes where needed, and line feeds at line ends.

    >>> region = Region("cat", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.75, 1.0, 0)
    >>> print(regions_csv([region]).splitlines()[1])
    cat,0,0,0,2,1,2,0.0,0.5,0.75,1.0,0
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for region in regions:
        scores = (region.mean_score, region.peak_score)
        name = (region.class_name, region.class_index)
        writer.writerow([*name, *region.box_xyxy, region.area, *region.centroid_yx, *scores, region.holes])
    return text.getvalue()
