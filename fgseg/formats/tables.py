"""Regions as tables: JSON, CSV and pandas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fgseg.errors import OptionError
from fgseg.types import Region

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["REGION_COLUMNS", "region_values", "regions_csv", "regions_frame", "regions_json"]

REGION_COLUMNS = (
    "class_name,class_index,left,top,right,bottom,area,centroid_y,centroid_x,mean_score,peak_score,holes"
).split(",")
"""Columns of the CSV."""


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
    writer.writerow(REGION_COLUMNS)
    writer.writerows(map(region_values, regions))
    return text.getvalue()


def regions_frame(regions: Sequence[Region]) -> DataFrame:
    """The region table as a pandas DataFrame with the columns of the CSV.

    Args:
        regions: the table.

    Returns:
        One row for each region, and the columns alone without regions.

    Raises:
        OptionError: pandas is not installed.

    >>> region = Region("cat", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.75, 1.0, 0)
    >>> regions_frame([region])[["class_name", "right", "area"]].values.tolist()
    [['cat', 2, 2]]
    """
    try:
        import pandas
    except ImportError as error:
        raise OptionError("to_dataframe: expected the package pandas, got none; pip install pandas") from error
    return pandas.DataFrame([region_values(region) for region in regions], columns=list(REGION_COLUMNS))


def region_values(region: Region) -> list[Any]:
    """The values of a region in the order of the columns."""
    scores = (region.mean_score, region.peak_score)
    name = (region.class_name, region.class_index)
    return [*name, *region.box_xyxy, region.area, *region.centroid_yx, *scores, region.holes]
