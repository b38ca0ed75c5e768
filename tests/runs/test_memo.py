"""The folders of what nodes made."""

import threading

from reclora_kedro.runs.memo import CHECKPOINTS, Memory, Trace

TRACE = Trace("lens.train_lens", {"log": "1"}, {"lens": "2"}, 3.5, "abc")


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
