"""Data are the same if their digests are."""

import os

import pytest

from codeprint import files
from codeprint.files import digest, digest_of_files


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


@pytest.fixture
def in_another_process(tmp_path, monkeypatch):
    """Hashes a file as another process would: returns how often it was read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SMALL", 1)
    monkeypatch.setattr(files, "CLOCK_TICK", -1)
    reads, hashed = [], files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: reads.append(path) or hashed(path))

    def hash_file(file):
        reads.clear()
        files._digest_of_file.cache_clear()
        assert digest_of_files(file) == digest([(".", hashed(file))])
        return len(reads)

    return hash_file


def test_a_file_is_read_again_only_once_it_has_changed(tmp_path, in_another_process, monkeypatch):
    file = tmp_path / "weights"
    file.write_text("first")
    assert [in_another_process(file) for _ in range(2)] == [1, 0]
    status = file.stat()
    file.write_text("other")  # of the same size, and then with the same time of change, as by rsync or tar
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [in_another_process(file) for _ in range(2)] == [1, 0]
    monkeypatch.setattr(files, "CLOCK_TICK", 10**12)
    file.write_text("young")
    assert [in_another_process(file) for _ in range(2)] == [1, 1]  # it may change within the same tick of the clock


@pytest.mark.parametrize("content", ["[]", "[3, 4]", '[[1], "ab"]', "{", "null"])
def test_a_damaged_memory_of_digests_is_made_again(tmp_path, in_another_process, content):
    file = tmp_path / "weights"
    file.write_bytes(b"ab")
    in_another_process(file)
    [note] = (files.private_cache() / "files").iterdir()
    note.write_text(content)
    assert [in_another_process(file) for _ in range(2)] == [1, 0]
    file.rename(tmp_path / "moved")
    in_another_process(tmp_path / "moved")
    assert [*(files.private_cache() / "files").iterdir()] == [note]  # of what is gone, nothing is kept
