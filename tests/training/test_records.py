import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fgseg.errors import DatasetError, ImageError, OptionError
from fgseg.images.writing import write_image
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import SHAPES
from fgseg.training.records import BadRecord, FileRecords, bad_lines, check_bad_share, parse_record
from fgseg.training.samples import PREFIX
from fgseg.training.scene_records import SceneRecords, as_entry, main, scene_record, write_scene_records
from recipes.mini.recipe import build_tokenizer

BOX = {
    "bbox": [0.25, 0.125, 0.75, 0.5, 0.9],
    "short_expr": "a cup",
    "long_expr": "a red cup on a saucer",
    "flag_short_neg": 1,
    "short_expr_negs": {"0": "a jug", "1": "a plate"},
}
ENTRY = {"f_path": "a.png", "caption": "A red cup on a saucer.", "short_caption": "a cup", "bbox_info": [BOX]}


def entry(**changes):
    return {**ENTRY, **changes}


def with_box(**changes):
    return entry(bbox_info=[{**BOX, **changes}])


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images" / "a.png", np.full((4, 6, 3), 7, np.uint8))
    return tmp_path / "images"


def written(folder, entries, name="records.jsonl"):
    text = json.dumps(entries) if name.endswith(".json") else "".join(json.dumps(one) + "\n" for one in entries)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_record_is_read_in_the_documented_format():
    record = parse_record(ENTRY)
    assert (record.image, record.caption, record.short_caption) == ("a.png", "A red cup on a saucer.", "a cup")
    (region,) = record.regions
    assert region.box_xyxy == (0.25, 0.125, 0.75, 0.5)
    assert (region.short, region.long) == ("a cup", "a red cup on a saucer")
    assert region.negatives == ("a jug", "a plate")


def test_false_captions_are_used_only_if_the_flag_is_set():
    assert parse_record(with_box(flag_short_neg=0)).regions[0].negatives == ()


def test_the_prefix_of_the_published_paths_is_removed():
    assert parse_record(entry(f_path="grit-20m/data-12m/coyo_image_0/1.jpg")).image == "coyo_image_0/1.jpg"


def test_an_image_without_boxes_is_valid():
    assert parse_record({key: value for key, value in ENTRY.items() if key != "bbox_info"}).regions == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["a"], "not a record: expected an object, got list"),
        (entry(caption=" "), "empty caption: caption: expected words, got ' '"),
        (entry(short_caption=None), "empty caption: short_caption: expected words, got None"),
        (entry(f_path=""), "missing file: f_path: expected words, got ''"),
        (entry(bbox_info={}) | {"bbox_info": "no"}, "not a record: bbox_info: expected a list, got 'no'"),
        (entry(bbox_info=[3]), r"not a record: bbox_info\[0\]: expected an object, got 3"),
        (with_box(bbox=[0.5, 0.1, 0.4, 0.2, 1]), r"box without area: bbox_info\[0\]: bbox: expected x1 < x2"),
        (with_box(bbox=[0.5, 0.2, 0.6, 0.2, 1]), "box without area"),
        (with_box(bbox=[0.5, 0.2, 1.1, 0.4, 1]), r"box outside the image: bbox_info\[0\]: bbox: expected fractions"),
        (with_box(bbox=[-0.01, 0.2, 0.6, 0.4, 1]), "box outside the image"),
        (with_box(bbox=[10, 20, 60, 40, 1]), "box outside the image"),
        (with_box(bbox=[float("nan"), 0.2, 0.6, 0.4, 1]), "box outside the image"),
        (with_box(bbox=[0.1, 0.2]), "not a record.*x1, y1, x2, y2"),
        (with_box(bbox=None), "not a record.*x1, y1, x2, y2"),
        (with_box(bbox=["a", 0.2, 0.3, 0.4]), "not a record.*x1, y1, x2, y2"),
        (with_box(bbox=[10**400, 0.2, 0.3, 0.4]), "not a record.*x1, y1, x2, y2"),
        (with_box(bbox={}), "not a record.*x1, y1, x2, y2"),
        (entry(caption="cut \ud83d"), r"broken caption: caption: expected valid Unicode, got 'cut \\ud83d'"),
        (with_box(short_expr=""), r"empty caption: bbox_info\[0\]: short_expr"),
        (with_box(long_expr=7), r"empty caption: bbox_info\[0\]: long_expr: expected words, got 7"),
        (with_box(short_expr_negs={}), "empty caption.*flag_short_neg is 1"),
        (with_box(short_expr_negs={"0": ""}), "empty caption"),
    ],
)
def test_a_bad_record_is_refused_with_kind_and_details(bad, message):
    with pytest.raises(DatasetError, match=f"^{message}"):
        parse_record(bad)


def test_a_corner_slightly_outside_is_moved_to_the_border():
    assert parse_record(with_box(bbox=[-1e-5, 0, 1.00001, 1, 1])).regions[0].box_xyxy == (0, 0, 1, 1)


@pytest.mark.parametrize("name", ["records.jsonl", "records.json"])
def test_bad_records_are_skipped_and_reported(tmp_path, images, name):
    bad = [with_box(bbox=[0.5, 0.1, 0.4, 0.2, 1]), entry(f_path="gone.png"), entry(caption="")]
    records = FileRecords([written(tmp_path, [ENTRY, *bad, entry(short_caption="tasse à café")], name)], images)
    assert (len(records), records.found) == (2, 5)
    assert [one.kind for one in records.bad] == ["box without area", "missing file", "empty caption"]
    assert [one.where.rsplit(", ", 1)[1] for one in records.bad] == (
        ["line 2", "line 3", "line 4"] if name.endswith("l") else ["record 1", "record 2", "record 3"]
    )
    record, image = records.sample(1)
    assert record.short_caption == "tasse à café"
    assert image.shape == (4, 6, 3)


def test_too_long_names_and_too_deep_nesting_are_bad_records(tmp_path, images):
    path = written(tmp_path, [entry(f_path="a" * 300), ENTRY])
    path.write_text(path.read_text() + "[" * 100_000 + "\n")
    records = FileRecords([path], images)
    assert (len(records), [one.kind for one in records.bad]) == (1, ["missing file", "not a record"])
    (tmp_path / "list.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"list\.json: expected a JSON list of records"):
        FileRecords([tmp_path / "list.json"], images)


def test_the_identity_depends_on_which_images_exist(tmp_path, images):
    path = written(tmp_path, [entry(f_path="b.png"), ENTRY])
    without = FileRecords([path], images)
    write_image(images / "b.png", np.zeros((2, 2, 3), np.uint8))
    assert FileRecords([path], images).identity != without.identity


def test_an_invalid_line_is_a_bad_record_and_an_invalid_list_is_an_error(tmp_path, images):
    path = written(tmp_path, [ENTRY])
    path.write_text(path.read_text() + "{oops\n\n" + json.dumps(ENTRY))
    records = FileRecords([path], images)
    assert (len(records), [one.kind for one in records.bad]) == (2, ["not a record"])
    (tmp_path / "list.json").write_text(json.dumps([ENTRY, ENTRY])[:-30])
    with pytest.raises(DatasetError, match=r"list\.json: expected a JSON list of records, got .*; correct the file"):
        FileRecords([tmp_path / "list.json"], images)


@settings(deadline=None, max_examples=20)
@given(
    texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4),
    space=st.sampled_from(["", " ", "\n\t"]),
    escaped=st.booleans(),
    mark=st.booleans(),
)
def test_every_record_of_a_list_is_read_from_its_byte_range(tmp_path_factory, texts, space, escaped, mark):
    folder = tmp_path_factory.mktemp("lists")
    write_image(folder / "a.png", np.zeros((1, 1, 3), np.uint8))
    items = [json.dumps(entry(caption=text), ensure_ascii=escaped) for text in texts]
    body = f"{space}[{space}" + f"{space},{space}".join(items) + f"{space}]{space}"
    data = body.encode("utf-8", errors="surrogatepass")
    (folder / "r.json").write_bytes((b"\xef\xbb\xbf" if mark else b"") + data)
    records = FileRecords([folder / "r.json"], folder)
    assert [records.sample(index)[0].caption for index in range(len(records))] == texts


def test_a_folder_gives_the_records_of_its_files_and_the_identity_depends_on_them(tmp_path, images):
    folder = tmp_path / "data"
    folder.mkdir()
    written(folder, [ENTRY], "b.jsonl")
    one = FileRecords([folder], images)
    written(folder, [ENTRY, ENTRY], "a.json")
    both = FileRecords([folder], images)
    assert (len(one), len(both)) == (1, 3)
    assert one.identity != both.identity
    assert both.name(2).endswith("b.jsonl, byte 0")


def test_missing_files_folders_and_records_are_errors(tmp_path, images):
    with pytest.raises(
        DatasetError, match=r"data: expected a \.json or \.jsonl file or a folder of them, found none at"
    ):
        FileRecords([tmp_path / "gone.json"], images)
    with pytest.raises(DatasetError, match=r"images: expected a folder, got .*gone; give the folder that"):
        FileRecords([written(tmp_path, [ENTRY])], tmp_path / "gone")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match=r"data: no record in .*empty\.jsonl"):
        FileRecords([tmp_path / "empty.jsonl"], images)


def test_an_unreadable_image_is_an_error_on_access(tmp_path, images):
    (images / "broken.png").write_bytes(b"no picture")
    records = FileRecords([written(tmp_path, [entry(f_path="broken.png")])], images)
    with pytest.raises(ImageError, match=r"broken\.png"):
        records.sample(0)


def test_too_many_bad_records_are_an_error():
    bad = [BadRecord("r.jsonl, line 2", "missing file: 2.jpg"), BadRecord("r.jsonl, line 9", "box without area: x")]
    assert check_bad_share(bad, 40, limit=0.05).endswith("missing file (1), box without area (1)")
    message = r"2 of 39 records are left out \(5.13 %\).*more than the 5 % allowed; the first is r.jsonl, line 2"
    with pytest.raises(DatasetError, match=message):
        check_bad_share(bad, 39, limit=0.05)
    with pytest.raises(DatasetError, match="2 of 2 records"):
        check_bad_share(bad, 2, limit=1.0)


def test_the_log_of_bad_records_has_one_json_object_per_line():
    line = bad_lines([BadRecord("é.jsonl, line 2", "missing file: 2.jpg")])
    assert json.loads(line) == {"where": "é.jsonl, line 2", "reason": "missing file: 2.jpg"}


# --- scenes as records


def test_scenes_written_to_disk_are_the_scenes_drawn_in_training(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "4", "--side", "32", "--first-seed", "3"])
    path = capsys.readouterr().out.strip()
    written_records, drawn = FileRecords([path], tmp_path), SceneRecords(4, first_seed=3, side=32)
    assert written_records.bad == ()
    for index in range(4):
        (record, image), (expected, pixels) = written_records.sample(index), drawn.sample(index)
        assert record == expected
        np.testing.assert_array_equal(image, pixels)
    assert drawn.name(1) == "scene 4"


def test_the_command_reports_an_error_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--count", "0"])
    assert "error: count: expected a number from 1" in capsys.readouterr().err.splitlines()[-1]


def test_the_boxes_of_a_scene_are_exact_to_the_pixel():
    for seed in range(20):
        drawn = scene(seed, (32, 48))
        regions = scene_record(drawn, seed).regions
        assert all(parse_record(as_entry(scene_record(drawn, seed))).regions[k] == one for k, one in enumerate(regions))
        shapes = [k for k, thing in enumerate(drawn.things) if thing.shape in SHAPES]
        boxes = {region.box_xyxy: region.short for region in regions}
        for k in shapes:
            rows, columns = np.nonzero(drawn.labels == k)
            if len(rows) >= 0.004 * 32 * 48:
                box = (columns.min() / 48, rows.min() / 32, (columns.max() + 1) / 48, (rows.max() + 1) / 32)
                assert box in boxes


def test_a_box_of_a_scene_has_ten_distinct_false_captions():
    regions = [region for seed in range(30) for region in scene_record(scene(seed, (32, 32)), seed).regions]
    assert {len(region.negatives) for region in regions} <= {0, 10}
    flagged = [region for region in regions if region.negatives]
    assert len(flagged) > 0.9 * len(regions)
    for region in flagged:
        assert len({region.short, *region.negatives}) == 11


def record_texts(record):
    regions = [text for region in record.regions for text in (region.short, region.long, *region.negatives)]
    return [PREFIX + record.short_caption, record.caption, *regions]


def test_the_texts_of_a_scene_consist_of_words_of_the_embedded_model():
    tokenizer = build_tokenizer()
    texts = [text for seed in range(20) for text in record_texts(SceneRecords(20, side=16).sample(seed)[0])]
    unknown = tokenizer.token_to_id("[UNK]")
    assert not [text for text in texts if unknown in tokenizer.encode(text).ids]


def test_a_count_of_0_scenes_is_refused():
    with pytest.raises(OptionError, match="count: expected a number from 1"):
        SceneRecords(0)


def test_writing_returns_the_path_of_the_records(tmp_path):
    path = write_scene_records(tmp_path, count=1, side=16)
    assert path == tmp_path / "records.jsonl"
    assert (tmp_path / json.loads(path.read_text())["f_path"]).is_file()
