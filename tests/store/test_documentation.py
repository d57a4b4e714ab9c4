"""docs/store.md: its Python runs as it stands, and its tables name every column with its type."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from stores import commit, filled, items

from fgseg.store.results.export import EXPORTS
from fgseg.store.schema import MANIFEST_SCHEMA, SCHEMA, Unit

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CELL = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| ([\w ]+) \|", re.MULTILINE)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas about Arrow, and of pycocotools about numpy
def test_the_python_of_the_page_runs(index, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store = filled("store", failing=["a/0001.jpg"])
    store.append(items(1, first=3, mtime_ns=9))
    commit(store, Unit(1, 0, 1))
    exec(compile(BLOCKS[index], "store.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for expected in EXPECTED[index]:
        assert expected in printed


EXPECTED = [
    ("8 images of ('cup', 'red')", "/photos/a/0001.jpg: not an image", "(2, 3) 2 [2, 1]"),
    ("│ error   │      1 │", "│ ok      │      7 │", "│ cup     │     14 │   0.25 │"),
    ("cup    0.25",),
    (),
]


def test_every_column_is_described_with_its_type():
    described = {name: kind for names, kind in CELL.findall(PAGE) for name in re.findall(r"\w+", names)}
    fields = [*SCHEMA, *SCHEMA.field("classes").type.value_type, *SCHEMA.field("regions").type.value_type]
    assert described.keys() == {field.name for field in fields}
    for field in fields:
        kind = described[field.name].removesuffix(" or null")
        assert str(field.type).startswith(("list", "double")) or str(field.type) == kind
        assert (field.type == pa.float64()) == (kind == "float64")


def test_the_columns_of_the_manifest_and_the_formats_are_named():
    for name in (*MANIFEST_SCHEMA.names, *EXPORTS):
        assert f"`{name}`" in PAGE
