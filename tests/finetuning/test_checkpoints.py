import errno
import logging
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dying import dying_at
from few_rows import few_rows_training, gates_decide, training_config, with_new_adapter
from forked import exit_code
from reclora_kedro.distributed.checkpoints import CheckpointStore, random_states, restore_random_states
from reclora_kedro.finetuning.training import TrainingRun

CPU = torch.device("cpu")


class RunEndedError(Exception):
    """Stands for whatever ends a run."""


class InterruptingStore(CheckpointStore):
    """A store after whose n-th checkpoint the run ends."""

    def __init__(self, folder, checkpoints):
        super().__init__(folder, "a training")
        self.left = checkpoints

    def save(self, *arguments):
        if self.left == 0:
            raise RunEndedError
        self.left -= 1
        return super().save(*arguments)


@pytest.fixture(scope="module")
def undisturbed(tiny_llm_folder):
    """Weights and log of a run without interruption and without checkpoints."""
    return few_rows_training(tiny_llm_folder)


def assert_undisturbed(ended, undisturbed):
    (weights, log), (expected, expected_log) = ended, undisturbed
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []
    assert log.drop("seconds").equals(expected_log.drop("seconds"))
    assert log["seconds"].is_sorted()


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.glob("**/*") if path.is_file())


@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 8, 13, 14])  # the average of weights begins with the eighth
def test_a_run_that_ends_after_any_checkpoint_goes_on_as_if_it_had_not(count, tiny_llm_folder, undisturbed, tmp_path):
    if count < 14:
        with pytest.raises(RunEndedError):
            few_rows_training(tiny_llm_folder, InterruptingStore(tmp_path, count))
    else:
        few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "a training"))
    assert len(files(tmp_path)) == min(count, 2)
    torch.manual_seed(99)  # whatever state the next session is in
    assert_undisturbed(few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "a training")), undisturbed)


def test_several_interruptions_and_rare_checkpoints_change_nothing_either(tiny_llm_folder, undisturbed, tmp_path):
    for rows in (8, 40, 16):
        with pytest.raises(RunEndedError):
            few_rows_training(tiny_llm_folder, InterruptingStore(tmp_path, 1), rows_per_checkpoint=rows)
    assert_undisturbed(few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "a training")), undisturbed)


@pytest.mark.parametrize("kill_at", ["synced:1", "moved:7"])
def test_a_killed_process_is_continued_to_the_last_bit(kill_at, tiny_llm_folder, undisturbed, tmp_path, caplog):
    store = tmp_path / "checkpoints"
    training = few_rows_training, tiny_llm_folder, CheckpointStore(store, "a training")
    assert exit_code(dying_at, kill_at, *training) == -signal.SIGKILL
    assert list(store.glob("*/.*"))  # what the killed process was writing
    caplog.set_level(logging.INFO)
    assert_undisturbed(few_rows_training(tiny_llm_folder, CheckpointStore(store, "a training")), undisturbed)
    moment, written = kill_at.split(":")
    whole = int(written) - (moment == "synced")
    assert (f"Fine-tuning continues at step {whole + 1} of 14" in caplog.text) == (whole > 0)
    assert not list(store.glob("*/.*"))


@given(data=st.data())
def test_a_torn_checkpoint_is_never_loaded(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torn")
    store = CheckpointStore(folder, "run")
    for step in (1, 2, 3):
        newest = Path(store.save(step, {"weights": torch.full((4,), float(step))}, {"step": step}))
    assert len(files(folder)) == 2
    content = newest.read_bytes()
    if data.draw(st.booleans(), "truncated"):
        newest.write_bytes(content[: data.draw(st.integers(0, len(content) - 1), "length")])
    else:
        place = data.draw(st.integers(0, len(content) - 1), "place")
        newest.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    found = store.newest()
    assert found.values == {"step": 2}
    assert found.tensors["weights"].tolist() == [2.0] * 4
    store.save(3, {"weights": torch.ones(4)}, {"step": "3 again"})
    assert store.newest().values == {"step": "3 again"}
    assert newest not in folder.glob("*/*")


def test_checkpoints_may_lie_in_an_object_storage(bucket, caplog):
    store = CheckpointStore(f"{bucket.address}/checkpoints", "run", bucket.options)
    assert store.newest() is None
    files = [store.save(step, {"weights": torch.full((4,), float(step))}, {"step": step}) for step in (1, 2, 3)]
    assert bucket.objects() == [file.removeprefix(f"{bucket.address}/") for file in files[1:]]
    assert store.newest().file == files[2]
    assert store.newest().tensors["weights"].tolist() == [3.0] * 4
    bucket.files.pipe_file(files[2], b"torn")
    assert store.newest().values == {"step": 2}
    assert CheckpointStore(store.folder, "another", bucket.options).newest() is None
    assert f"The checkpoints in {bucket.address}/checkpoints belong to a training with other settings" in caplog.text


def test_a_storage_that_takes_no_checkpoint_is_named(bucket):
    with pytest.raises(OSError, match=r"s3://absent/run/step-00000001.* cannot be used: .*bucket") as raised:
        CheckpointStore("s3://absent", "run", bucket.options).save(1, {"a": torch.ones(1)}, {})
    assert "Earlier checkpoints are intact" in raised.value.__notes__[0]


def test_another_runs_checkpoint_is_left_alone_and_not_continued(tiny_llm_folder, tmp_path, caplog):
    with pytest.raises(RunEndedError):
        few_rows_training(tiny_llm_folder, InterruptingStore(tmp_path, 5))
    before = files(tmp_path)
    alone, _ = few_rows_training(tiny_llm_folder, learning_rate=1e-3)
    weights, log = few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "another"), learning_rate=1e-3)
    assert f"The checkpoints in {tmp_path} belong to a training with other settings" in caplog.text
    assert all(torch.equal(weights[name], alone[name]) for name in alone)
    assert log.height == 14
    assert set(before) < set(files(tmp_path))


@pytest.mark.parametrize(("place", "function"), [(Path, "write_bytes"), (os, "fsync"), (Path, "replace")])
def test_a_full_disk_is_said_and_leaves_the_earlier_checkpoints(
    place, function, tiny_llm_folder, undisturbed, tmp_path, monkeypatch
):
    with pytest.raises(RunEndedError):
        few_rows_training(tiny_llm_folder, InterruptingStore(tmp_path, 3))
    before = files(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, function, full)
        with pytest.raises(OSError, match="No space left") as raised:
            few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "a training"))
    assert raised.value.errno == errno.ENOSPC
    of_disk, of_checkpoint = raised.value.__notes__
    assert re.search(rf"The disk is full: {tmp_path}/.*step-00000004.* needs more than the [\d,.]+ MiB", of_disk)
    assert re.search(
        r"The checkpoint .*step-00000004.* could not be written\. Earlier checkpoints are intact", of_checkpoint
    )
    assert files(tmp_path) == before
    assert_undisturbed(few_rows_training(tiny_llm_folder, CheckpointStore(tmp_path, "a training")), undisturbed)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/run") as raised:
        CheckpointStore(tmp_path / "file", "run").save(1, {"a": torch.ones(1)}, {})
    [note] = raised.value.__notes__
    assert re.search(r"file/run/step-00000001.* could not be written", note)


def test_weights_that_are_not_finite_are_never_written(tiny_model):
    run = TrainingRun(with_new_adapter(tiny_model, gates_decide(9)).model, training_config(), steps=4)
    next(iter(run.weights.values())).data.view(-1)[0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"1 weights .* not finite after step 0 of 4 \(the first is .*reclora"):
        run.checkpoint()


def test_random_states_come_back():
    states = random_states(CPU)
    states = {name: torch.stack([torch.zeros_like(state), state])[1] for name, state in states.items()}  # of process 1
    first = torch.rand(3)
    restore_random_states(states, CPU)
    assert torch.equal(torch.rand(3), first)
