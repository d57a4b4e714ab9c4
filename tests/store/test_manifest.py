"""The manifest: new, changed and known images, units, and planning by several processes."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st
from stores import items

from fgseg.errors import StoreError
from fgseg.store import manifest as manifest_module
from fgseg.store.files import open_files
from fgseg.store.manifest import Appended, Manifest
from fgseg.store.schema import Item, Unit


@pytest.fixture
def files(place):
    return open_files(place)


def ids(manifest, part):
    return [image_id for unit in manifest.units_of(part) for image_id in manifest.ids(unit)]


def test_images_are_cut_into_units_in_their_order(files):
    manifest = Manifest(files, 3)
    assert manifest.append(iter(items(8))) == Appended(new=8, changed=0, known=0)
    assert list(manifest.units()) == [Unit(0, 0, 3), Unit(0, 1, 3), Unit(0, 2, 2)]
    assert manifest.items(Unit(0, 1, 3)) == items(3, first=3)


def test_only_new_and_changed_images_make_a_new_part(files):
    manifest = Manifest(files, 3)
    manifest.append(items(4, mtime_ns=5))
    listed = [*items(1, mtime_ns=5), *items(2, first=1, mtime_ns=6), *items(2, first=3, mtime_ns=5)]
    assert manifest.append(listed) == Appended(new=1, changed=2, known=2)
    assert ids(manifest, 1) == ["a/0001.jpg", "a/0002.jpg", "a/0004.jpg"]
    assert (manifest.changed(0), manifest.changed(1)) == ({}, {"a/0001.jpg": 0, "a/0002.jpg": 0})
    assert manifest.append(listed) == Appended(new=0, changed=0, known=5)
    assert manifest.parts() == [0, 1]


def test_an_image_that_changes_back_has_changed_again(files):
    manifest = Manifest(files, 3)
    for etag, found in (("x", Appended(1, 0, 0)), ("y", Appended(0, 1, 0)), ("x", Appended(0, 1, 0))):
        assert manifest.append(items(1, etag=etag)) == found


@pytest.mark.parametrize(
    ("before", "now", "is_changed"),
    [
        ((10, 5, "x"), (10, 5, "x"), False),
        ((10, 5, "x"), (11, 5, "x"), True),
        ((10, 5, "x"), (10, 6, "x"), True),
        ((10, 5, "x"), (10, 5, "y"), True),
        ((10, None, None), (10, 5, "y"), False),  # what is not known on both sides is not compared
        ((None, 5, None), (10, None, None), False),
    ],
)
def test_an_image_has_changed_if_its_size_time_or_tag_differs(files, before, now, is_changed):
    manifest = Manifest(files, 3)
    manifest.append([Item("a.jpg", "/a.jpg", *before)])
    assert manifest.append([Item("a.jpg", "/moved/a.jpg", *now)]).changed == is_changed


versions = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3), max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(versions, max_size=5), st.integers(1, 4))
def test_whatever_is_appended_the_manifest_ends_with_the_newest_version_of_every_image(listings, unit_size):
    files = open_files("memory://property/store")
    with suppress(FileNotFoundError):
        files._system.rm("/property", recursive=True)
    manifest, newest = Manifest(files, unit_size), {}
    for listing in listings:
        found = manifest.append([Item(name, name, size) for name, size in listing.items()])
        assert found.new == len(listing.keys() - newest.keys())
        assert found.changed == sum(newest.get(name, size) != size for name, size in listing.items())
        newest |= listing
    stored = {item.image_id: item.size for unit in manifest.units() for item in manifest.items(unit)}
    assert stored == newest


def test_an_image_that_is_listed_twice_is_kept_once(files):
    manifest = Manifest(files, 3)
    assert manifest.append([*items(2), *items(2)]) == Appended(new=2, changed=0, known=0)


def test_one_id_from_two_places_is_refused_and_nothing_is_written(files):
    manifest = Manifest(files, 3)
    with pytest.raises(StoreError, match=r"'a/0000.jpg' from /photos/a/0000.jpg and from /other.jpg; give them"):
        manifest.append([*items(2), replace(items(1)[0], uri="/other.jpg")])
    assert manifest.parts() == []


def test_more_images_than_a_part_holds_make_several(files, monkeypatch):
    monkeypatch.setattr(manifest_module, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_module, "_BATCH", 2)
    manifest = Manifest(files, 3)
    assert manifest.append(iter(items(9))) == Appended(new=9, changed=0, known=0)
    assert [ids(manifest, part) for part in manifest.parts()] == [
        [item.image_id for item in items(count, first)] for count, first in ((4, 0), (4, 4), (1, 8))
    ]


@pytest.mark.parametrize("suffix", ["", "x" * 5000])  # Parquet keeps no bounds of such long ids
def test_only_parts_that_may_hold_a_listed_image_are_compared(files, monkeypatch, suffix):
    monkeypatch.setattr(manifest_module, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_module, "_BATCH", 2)
    listed = [replace(item, image_id=item.image_id + suffix) for item in items(12)]
    Manifest(files, 3).append(listed)
    manifest, compared = Manifest(files, 3), []
    compare = manifest._compare
    monkeypatch.setattr(manifest, "_compare", lambda table, part: compared.append(part) or compare(table, part))
    changed = [*listed[:8], replace(listed[8], mtime_ns=2), *listed[9:]]
    assert manifest.append(changed) == Appended(new=0, changed=1, known=11)
    assert compared == [0, 1, 2]
    compared.clear()
    assert manifest.append(listed) == Appended(new=0, changed=1, known=11)
    assert compared == [0, 1, 2, 3]  # part 3 is that of the changed image


def test_two_processes_that_plan_at_once_add_each_image_once(files, monkeypatch):
    ours, theirs = Manifest(files, 3), Manifest(files, 3)
    create, calls = files.create, []

    def create_after_the_other(name, data):
        monkeypatch.setattr(files, "create", create)
        calls.append(theirs.append(items(5)))
        return create(name, data)

    monkeypatch.setattr(files, "create", create_after_the_other)
    assert ours.append(items(7)) == Appended(new=2, changed=0, known=5)
    assert calls == [Appended(new=5, changed=0, known=0)]
    assert [ids(ours, part) for part in ours.parts()] == [
        [item.image_id for item in items(5)], [item.image_id for item in items(2, first=5)],
    ]  # fmt: skip


def test_no_image_makes_no_part(files):
    manifest = Manifest(files, 3)
    assert manifest.append([]) == Appended(0, 0, 0)
    assert manifest.parts() == []


def test_an_image_is_found_in_its_units_the_newest_first(files):
    manifest = Manifest(files, 3)
    manifest.append(items(8, mtime_ns=5))
    manifest.append(items(1, first=4, mtime_ns=6))
    assert list(manifest.find("a/0004.jpg")) == [Unit(1, 0, 1), Unit(0, 1, 3)]
    assert list(manifest.find("b.jpg")) == []


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[: len(data) // 2]])
def test_a_damaged_part_is_named_with_what_to_do(files, damage):
    Manifest(files, 3).append(items(8))
    files.write("manifest/0000.parquet", damage(files.read("manifest/0000.parquet")))
    with pytest.raises(StoreError, match=r"0000.parquet: expected a part of the manifest, got a damaged file .*copy"):
        list(Manifest(files, 3).units())
