"""Data are the same if their digests are."""

import json
import os

import pytest

from kedro_provenance.files import digests
from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.digests import digest, digest_of_files
from kedro_provenance.parameters import Block


class Prompt(Block):
    max_tokens: int


def test_digests_are_of_values_whatever_holds_them():
    assert digest(Prompt(max_tokens=3)) == digest({"max_tokens": 3}) != digest({"max_tokens": 4})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"type": object}) == digest({"type": object})


def test_a_file_is_known_by_its_content(tmp_path):
    (tmp_path / "a").write_text("one")
    before = digest_of_files(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 1))
    assert digest_of_files(tmp_path / "a") == before
    (tmp_path / "a").write_text("two")
    assert digest_of_files(tmp_path / "a") != before


def test_a_folder_is_known_by_its_names_and_contents(tmp_path):
    for folder, name in (("x", "a"), ("y", "a"), ("z", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("same")
    x, y, z = (digest_of_files(tmp_path / folder) for folder in "xyz")
    assert x == y != z


def test_a_file_that_does_not_count_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("one")
    before = digest_of_files(tmp_path)
    (tmp_path / "note.json").write_text("later")
    assert digest_of_files(tmp_path, leave_out=["note.json"]) == before != digest_of_files(tmp_path)


def test_a_large_file_is_read_again_only_once_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 3)
    file, reads = tmp_path / "weights", []
    hashed = digests.sha256_of
    monkeypatch.setattr(digests, "sha256_of", lambda path: reads.append(path) or hashed(path))
    for content, seconds in (("first", 1), ("first", 1), ("other", 1), ("other", 2)):
        file.write_text(content)
        os.utime(file, (seconds, seconds))
        digests._digest_of_file.cache_clear()  # as in another run
        digest_of_files(file)
    assert len(reads) == 2  # a change that keeps size and time goes unnoticed, as is said
    (tmp_path / "cache/kedro-provenance/digests/files.json").write_text("torn")
    digests._digest_of_file.cache_clear()
    assert digest_of_files(file) == digest([(".", hashed(file))])
    assert json.loads((tmp_path / "cache/kedro-provenance/digests/files.json").read_text()).keys() == {str(file)}


@pytest.mark.parametrize("content", ["[]", '{"/a": 3}', '{"/a": [1, 2]}', "{", "null"])
def test_a_damaged_memory_of_digests_is_made_again(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(digests, "LARGE", 1)
    digests._digest_of_file.cache_clear()
    (tmp_path / "weights").write_bytes(b"ab")
    remembered = digests.private_cache() / "digests/files.json"
    remembered.parent.mkdir()
    remembered.write_text(content)
    assert digest_of_files(tmp_path / "weights")
    assert str(tmp_path / "weights") in remembered.read_text()
    (tmp_path / "weights").rename(tmp_path / "moved")
    digest_of_files(tmp_path / "moved")
    assert json.loads(remembered.read_text()).keys() == {str(tmp_path / "moved")}  # of what is gone, nothing is kept


def test_what_other_processes_write_to_the_cache_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(digests, "LARGE", 1)
    (tmp_path / "weights").write_bytes(b"abc")
    for folder in ("llm", "digests/more"):  # beside what is remembered, too
        with atomic_folder(digests.private_cache() / folder, shared=True) as draft:
            (draft / "weights").write_text("half")
            digests._digest_of_file.cache_clear()
            os.utime(tmp_path / "weights", (1, len(folder)))
            digest_of_files(tmp_path / "weights")
        assert (digests.private_cache() / folder / "weights").exists()
