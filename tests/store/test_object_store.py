"""A store in S3's protocol, on a server of this process; needs the extra s3 and the package moto[server]."""

import hashlib

import fsspec
import numpy as np
import pytest
from stores import all_ids, commit, filled, identity, items

import fgseg
from fgseg.errors import StoreError
from fgseg.images.writing import encode_png
from fgseg.store.files import open_files
from fgseg.store.maintenance.checking import check_store, run_status
from fgseg.store.maintenance.compacting import compact_store
from fgseg.store.schema import Unit
from fgseg.store.store import Store

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bucket():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("masks-of-tests")
        yield "s3://masks-of-tests"
    server.stop()


def test_a_store_is_filled_read_compacted_and_checked(bucket):
    place = f"{bucket}/life"
    store = filled(place, failing=["a/0004.jpg"])
    assert list(Store.open(place).units()) == []
    reader = fgseg.open_store(place)
    assert [row.image_id for row in reader] == all_ids(store)
    assert [row.image_id for row in reader.errors()] == ["a/0004.jpg"]
    assert list(check_store(Store.open(place))) == []
    assert compact_store(Store.open(place)).after == 1
    assert [row.image_id for row in reader] == all_ids(store)
    assert run_status(Store.open(place)).files == 1


def test_attempts_damage_and_retries_work_as_in_a_folder(bucket):
    place = f"{bucket}/damage"
    store = filled(place, failing=["a/0001.jpg"])
    (unit,) = Store.open(place).units(retry_errors=True)
    assert [store.record_attempt(unit), Store.open(place).record_attempt(unit)] == [1, 2]
    commit(store, unit)
    assert store.attempts(unit) == 0
    name = f"{store.shards.folder}/0000-000001.parquet"
    store.files.write(name, store.files.read(name)[:-10])
    assert list(Store.open(place).units()) == [Unit(0, 1, 3)]
    assert len(store.files.names("quarantine")) == 1


def test_pictures_of_a_bucket_are_segmented_into_a_store_of_the_bucket(bucket, tiny_model):
    colors = np.random.RandomState(731).randint(0, 256, (3, 16, 24, 3)).astype(np.uint8)
    pictures = {f"{name}.png": encode_png(color) for name, color in zip("abc", colors, strict=True)}
    for name, data in {**pictures, "broken.png": b"no picture", "notes.txt": b""}.items():
        fsspec.filesystem("s3").pipe_file(f"{bucket}/photos/{name}", data)
    again = {"model": tiny_model, "dtype": "float32", "unit_size": 2, "workers": 2}
    report = fgseg.batch([f"{bucket}/photos"], ["red", "blue"], f"{bucket}/masks", **again)
    assert (report.done, report.failed, report.left_out) == (3, 1, {"other files": 1})
    rows = {row.image_id: row for row in fgseg.open_store(f"{bucket}/masks")}
    assert {name: row.status for name, row in rows.items()} == {**dict.fromkeys(pictures, "ok"), "broken.png": "error"}
    assert rows["b.png"].sha256 == hashlib.sha256(pictures["b.png"]).hexdigest()
    fsspec.filesystem("s3").pipe_file(f"{bucket}/photos/b.png", pictures["a.png"])
    report = fgseg.batch([f"{bucket}/photos"], ["red", "blue"], f"{bucket}/masks", **again)
    assert (report.changed, report.done, report.skipped) == (1, 1, 3)


def test_of_two_planners_one_creates_a_part(bucket):
    files = open_files(f"{bucket}/plan")
    assert [files.create("manifest/0000.parquet", data) for data in (b"first", b"second")] == [True, False]
    assert files.read("manifest/0000.parquet") == b"first"


def test_another_run_is_refused(bucket):
    filled(f"{bucket}/runs", count=1)
    with pytest.raises(StoreError, match=r"threshold: stored 0.5, now 0.4"):
        Store.create_or_open(f"{bucket}/runs", identity(threshold=0.4))
    with pytest.raises(StoreError, match="expected a store"):
        Store.open(f"{bucket}/nothing")
    with pytest.raises(StoreError):
        Store.create_or_open("s3://no-such-bucket-of-tests/store", identity()).append(items(1))
