"""What the options of a command become."""

from fgseg.commands.arguments import region_stamps


def test_a_change_of_any_region_map_of_a_folder_is_noticed(tmp_path):
    (tmp_path / "may").mkdir()
    for name in ("a.png", "may/a.png"):
        (tmp_path / name).write_bytes(b"1")
    before = region_stamps(str(tmp_path))
    assert [name for name, *_ in before] == ["a.png", "may/a.png"]
    (tmp_path / "may" / "a.png").write_bytes(b"12")
    assert region_stamps(str(tmp_path)) != before
    assert region_stamps(str(tmp_path / "a.png")) == before[:1]
    assert region_stamps("superpixels") == region_stamps(None) == []
