"""Local paths by their addresses."""

from codeprint.files import files_in, paths_at


def test_an_address_names_what_is_there(tmp_path):
    for name in ("a/log.csv", "b/log.csv", "log[1].csv", "log1.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert paths_at(f"{tmp_path}/log[1].csv") == [tmp_path / "log[1].csv"]  # no pattern, since it is there
    assert paths_at(f"file://{tmp_path}/log1.csv") == [tmp_path / "log1.csv"]
    assert paths_at(f"{tmp_path}/*/log.csv") == [tmp_path / "a/log.csv", tmp_path / "b/log.csv"]
    assert paths_at(f"{tmp_path}/**/log*.csv")[-2:] == [tmp_path / "log1.csv", tmp_path / "log[1].csv"]
    for address in ("/", "//", "", "s3://bucket/log.csv", f"{tmp_path}/none", "a\0b", "sqlite:///log.db", "price ** 2"):
        assert paths_at(address) == []


def test_relative_paths_are_those_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "llm").mkdir()
    assert paths_at("llm") == []
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path in paths_at("llm")] == ["llm"]


def test_files_behind_links_are_in_a_folder_each_once(tmp_path):
    for name in ("elsewhere", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere/part").write_text("1")
    (tmp_path / "folder/part").write_text("2")
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder/circle").symlink_to(tmp_path / "folder")
    (tmp_path / "folder/broken").symlink_to(tmp_path / "nothing")
    assert list(files_in(tmp_path / "folder")) == [tmp_path / "folder/link/part", tmp_path / "folder/part"]
