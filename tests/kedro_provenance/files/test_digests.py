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


@pytest.fixture
def in_another_process(tmp_path, monkeypatch):
    """Hashes a file as another process would: returns how often it was read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SMALL", 1)
    monkeypatch.setattr(digests, "CLOCK_TICK", -1)
    monkeypatch.setattr(digests, "_found", {})
    reads, hashed = [], digests.sha256_of
    monkeypatch.setattr(digests, "sha256_of", lambda path: reads.append(path) or hashed(path))

    def hash_file(file):
        reads.clear()
        digests._digest_of_file.cache_clear()
        digests._stored_digests.cache_clear()
        assert digest_of_files(file) == digest([(".", hashed(file))])
        digests.store_digests()
        return len(reads)

    yield hash_file
    digests._stored_digests.cache_clear()


def stored(tmp_path):
    return json.loads((tmp_path / "cache/kedro-provenance/digests/files.json").read_text())


def test_a_file_is_read_again_only_once_it_has_changed(tmp_path, in_another_process, monkeypatch):
    file = tmp_path / "weights"
    file.write_text("first")
    assert [in_another_process(file) for _ in range(2)] == [1, 0]
    status = file.stat()
    file.write_text("other")  # of the same size, and then with the same time of change, as by rsync or tar
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [in_another_process(file) for _ in range(2)] == [1, 0]
    monkeypatch.setattr(digests, "CLOCK_TICK", 10**12)
    file.write_text("young")
    assert [in_another_process(file) for _ in range(2)] == [1, 1]  # it may change within the same tick of the clock


@pytest.mark.parametrize("content", ["[]", '{"/a": 3}', '{"/a": [1, 2]}', "{", "null"])
def test_a_damaged_memory_of_digests_is_made_again(tmp_path, in_another_process, content):
    (tmp_path / "weights").write_bytes(b"ab")
    (digests.private_cache() / "digests").mkdir()
    (digests.private_cache() / "digests/files.json").write_text(content)
    assert in_another_process(tmp_path / "weights") == 1
    assert stored(tmp_path).keys() == {str(tmp_path / "weights")}
    (tmp_path / "weights").rename(tmp_path / "moved")
    in_another_process(tmp_path / "moved")
    assert stored(tmp_path).keys() == {str(tmp_path / "moved")}  # of what is gone, nothing is kept


def test_what_other_processes_write_to_the_cache_is_left_alone(tmp_path, in_another_process):
    (tmp_path / "weights").write_bytes(b"abc")
    for folder in ("llm", "digests/more"):  # beside what is remembered, too
        with atomic_folder(digests.private_cache() / folder, shared=True) as draft:
            (draft / "weights").write_text("half")
            os.utime(tmp_path / "weights", (1, len(folder)))
            in_another_process(tmp_path / "weights")
        assert (digests.private_cache() / folder / "weights").exists()
