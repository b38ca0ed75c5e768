"""Digests, and the folders of what nodes made."""

import os
import threading

from reclora_kedro.parameters import Block
from reclora_kedro.study.memo import CHECKPOINTS, Memory, Trace, digest, digest_of_files

TRACE = Trace("lens.train_lens", {"log": "1"}, {"lens": "2"}, 3.5, "abc")


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


def test_what_a_node_made_is_there_once_its_trace_is(tmp_path):
    memory = Memory(tmp_path / "key")
    assert memory.trace() is None
    with memory.lock():
        for folder in ("lens", CHECKPOINTS):
            (memory.folder / folder).mkdir()
        memory.clear()
        assert [path.name for path in memory.folder.iterdir() if path.is_dir()] == [CHECKPOINTS]
        memory.keep(TRACE)
    assert memory.trace() == TRACE
    assert not (memory.folder / CHECKPOINTS).exists()


def test_one_at_a_time_makes_it(tmp_path):
    memory, order = Memory(tmp_path / "key"), []

    def second():
        with memory.lock():
            order.append("second")

    with memory.lock():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
