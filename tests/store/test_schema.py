"""Rows and images as values and as Parquet columns."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from stores import items, row_of

from fgseg.errors import OptionError
from fgseg.store.schema import SCHEMA, ClassRow, Item, RegionRow, Row, Unit, rows_to_table, table_to_rows

UNIT = Unit(1, 12, 2)
whole = st.integers(0, 2**31 - 1)
share = st.floats(0, 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
regions = st.builds(RegionRow, whole, whole, whole, whole, whole, whole, share, share, share, share, whole)
classes = st.builds(ClassRow, whole, text, st.integers(0, 2**62), share, share, st.binary(max_size=9))
maybe = st.none() | st.integers(0, 2**62)
scores = st.none() | st.tuples(*[st.integers(1, 3)] * 3).map(lambda shape: np.full(shape, 0.3, np.float32))
rows = st.builds(
    Row, st.just("a/é.jpg"), text, maybe, maybe, st.none() | text, text, st.sampled_from(["ok", "error"]), text, text,
    whole, whole, whole, whole, st.lists(classes, max_size=2).map(tuple), st.lists(regions, max_size=2).map(tuple),
    st.binary(max_size=9), scores, share, text,
)  # fmt: skip


def same(one, other):
    values = [{**vars(row), "scores": None if row.scores is None else row.scores.tolist()} for row in (one, other)]
    return values[0] == values[1]


@given(st.lists(rows, max_size=3))
def test_rows_are_the_same_after_a_table(some):
    table = rows_to_table(some, UNIT)
    assert table.schema == SCHEMA
    assert all(map(same, some, table_to_rows(table)))


def test_a_table_says_its_unit_and_holds_the_shape_of_scores():
    (item,) = items(1)
    record = rows_to_table([row_of(item, scores=np.zeros((2, 3, 4), np.float32))], UNIT).to_pylist()[0]
    assert (record["part"], record["unit"], record["scores_shape"], len(record["scores"])) == (1, 12, [2, 3, 4], 24)
    assert rows_to_table([row_of(item)], UNIT)["scores"].null_count == 1


def test_the_error_of_a_file_whose_name_is_not_unicode_is_written_with_its_bytes():
    (item,) = items(1)
    (row,) = table_to_rows(rows_to_table([row_of(item, status="error", error="caf\udce9.jpg: empty")], UNIT))
    assert row.error == "caf\\udce9.jpg: empty"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "relative path"), ("/a.jpg", "relative path"), ("a/../../b.jpg", "relative path"), ("..", "relative path"),
        ("a\0.jpg", "relative path"), ("cafe\u0301.jpg", "NFC"), ("caf\udce9.jpg", "not Unicode"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [Item, lambda name, uri: Row(name, uri, None, None, None, "", "ok")])
def test_a_name_that_is_no_id_is_refused(make, name, message):
    with pytest.raises(OptionError, match=message):
        make(name, "/photos/a.jpg")


def test_dots_inside_a_name_are_no_way_up():
    assert Item("a..b/c...jpg", "x").image_id == "a..b/c...jpg"


def test_an_unknown_status_is_refused():
    with pytest.raises(OptionError, match="status: expected one of ok, error"):
        Row("a", "a", None, None, None, "", "done")


def test_units_sort_by_part_and_number_and_name_their_files():
    assert sorted([Unit(1, 0, 3), Unit(0, 2, 3)]) == [Unit(0, 2, 3), Unit(1, 0, 3)]
    assert Unit(3, 12, 256).name == "0003-000012"
