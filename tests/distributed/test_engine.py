"""The engine on a real Ray of two workers: what it gives is what this process alone gives."""

import os
import pickle
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray
import torch
import yaml
from polars.testing import assert_frame_equal
from ray import cloudpickle

from few_rows import (
    adapter_weights,
    gates_decide,
    load_model,
    random_prompts,
    training_config,
    with_adapter,
    with_new_adapter,
)
from reclora_kedro.distributed import engine as engines
from reclora_kedro.distributed.engine import (
    LOCAL,
    OncePerWorker,
    ShardError,
    connect,
    free_workers,
    map_shards,
    train_together,
)
from reclora_kedro.distributed.group import ALONE
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import fine_tune
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.llm.sentence_encoder import embed_texts
from reclora_kedro.llm.shared_prefix import score_candidates
from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables

pytestmark = pytest.mark.waits

CONF = Path(__file__).parents[2] / "conf" / "base"


@pytest.fixture(scope="module")
def engine():
    """A Ray takes 10 s to start, and each of its workers as long for its first imports."""
    engine = LOCAL.model_copy(update={"kind": "ray", "workers": 2, "rows_per_shard": 3})
    ray = connect(engine)
    yield engine
    ray.shutdown()


def long_log():
    """Raw interactions and items, and settings of ingestion and history."""
    random = np.random.default_rng(0)
    raw = pl.DataFrame({name: random.integers(1, most, size=700) for name, most in (("user", 30), ("item", 40))})
    raw = raw.with_columns(stars=pl.Series(random.integers(0, 6, size=700)), second=pl.Series(random.permutation(700)))
    parameters = {
        name: yaml.safe_load((CONF / f"parameters_{name}.yml").read_text().replace("${globals:seed}", "42"))[name]
        for name in ("ingestion", "history")
    }
    columns = {"user_id": "user", "item_id": "item", "rating": "stars", "timestamp": "second"}
    parameters["ingestion"] |= {
        "interactions": {**columns, "timestamp_format": "unix_seconds"},
        "items": parameters["ingestion"]["items"] | {"item_id": "item", "title": "title", "fields": []},
        "users": None,
        "plausible_times": {"first_day": "1970-01-01", "last_day": None, "max_outside": 0},
        "max_ratings_outside": 1,
        "max_missing": 1,
        "max_share_of_one_id": 1,
    }
    raw_items = pl.DataFrame({"item": range(1, 40)}).with_columns(title=pl.format("Film {}", "item"))
    ingestion, history = IngestionConfig(**parameters["ingestion"]), HistoryConfig(**parameters["history"])
    return raw, raw_items, ingestion, history


def test_shards_are_all_rows_in_order(engine):
    for rows in (0, 1, 7, 100):
        np.testing.assert_array_equal(np.concatenate(engine.shards(rows)), np.arange(rows))
        assert max(map(len, engine.shards(rows))) <= 3
    assert [len(part) for part in LOCAL.shards(9)] == [9]


@pytest.mark.slow
def test_results_come_in_order_although_a_worker_dies(engine, tmp_path):
    def work(number):
        died = tmp_path / "died"
        if number == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    assert list(map_shards(work, range(8), engine, "squares")) == [number**2 for number in range(8)]
    assert Path(tmp_path, "died").exists()


@pytest.mark.slow
def test_workers_stay_for_the_next_map_and_forget_what_they_held(engine):
    def pid(_):
        time.sleep(0.2)
        return os.getpid()

    first, second = (set(map_shards(pid, range(4), engine, "processes")) for _ in range(2))
    assert first == second
    assert len(first) == 2


@pytest.mark.slow
def test_workers_without_gpus_see_none(engine):
    assert list(map_shards(lambda _: os.environ["CUDA_VISIBLE_DEVICES"], range(2), engine, "GPUs")) == ["", ""]


@pytest.mark.slow
def test_a_worker_without_a_place_gets_that_of_one_that_is_done(engine, tmp_path, monkeypatch):
    """As where a node is lost and none comes in its place: something else holds one of the two cores here."""
    monkeypatch.setattr("reclora_kedro.distributed.engine.MAKE_ROOM_AFTER", 2)
    over = tmp_path / "over"

    def hold():
        until = time.monotonic() + 60
        while not over.exists() and time.monotonic() < until:
            time.sleep(0.1)

    free_workers()
    held = ray.remote(num_cpus=1)(hold).remote()
    time.sleep(1)  # it has started
    assert list(map_shards(abs, range(-6, 0), engine, "abs")) == [6, 5, 4, 3, 2, 1]
    assert ray.wait([held], timeout=0)[0] == []
    over.touch()
    ray.get(held)


@pytest.mark.slow
def test_a_shard_that_ends_every_worker_ends_the_step(engine, monkeypatch):
    monkeypatch.setattr("reclora_kedro.distributed.engine.MAX_FAILURES", 1)
    free_workers()  # which were started to fail more often

    def work(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(
        ShardError,
        match=r"halves, shard 3 of 5 could not be completed on the Ray cluster: .* No partial result was kept",
    ):
        list(map_shards(work, range(5), engine, "halves"))


@pytest.mark.slow
def test_a_shard_that_fails_is_named_with_its_cause(engine):
    with pytest.raises(ShardError, match=r"halves, shard 3 of 4 failed: ZeroDivisionError: division by zero"):
        list(map_shards(lambda number: 1 / number, [2, 1, 0, 4], engine, "halves"))


@pytest.mark.slow
def test_what_cannot_be_made_fails_with_its_cause(engine):
    with pytest.raises(ShardError, match=r"halves, shard 1 of 2 failed: KeyError: 'no model'"):
        list(map_shards(OncePerWorker(partial({}.__getitem__, "no model")), [2, 1], engine, "halves"))


@pytest.mark.slow
def test_a_cluster_that_does_not_do_is_refused(engine):
    with pytest.raises(ValueError, match=r"3 workers with 1 CPUs each, but the Ray cluster has 2 CPUs: lower"):
        connect(engine.model_copy(update={"workers": 3}))
    with pytest.raises(ValueError, match=r"2 workers with 0.5 GPUs each, but the Ray cluster has 0 GPUs: lower"):
        connect(engine.model_copy(update={"gpus_per_worker": 0.5}))


@pytest.mark.parametrize("negatives", ["none", "matched"])
def test_a_log_is_cleaned_and_built_on_workers_as_here(engine, tmp_path, negatives):
    raw, raw_items, ingestion, history = long_log()
    history = HistoryConfig(**history.model_dump() | {"negatives": {"kind": negatives, "per_positive": 1}})
    raw.write_parquet(tmp_path / "raw.parquet")
    logs = []
    for where in (LOCAL, engine.model_copy(update={"rows_per_part": 150, "scratch": str(tmp_path)})):
        lazily = pl.scan_parquet(tmp_path / "raw.parquet")
        interactions, items, users, _ = build_canonical_tables(lazily, raw_items, None, None, ingestion, where)
        folder = tmp_path / where.kind
        folder.mkdir()
        build_log(interactions, items, users, history, where).save(folder)
        logs.append(InteractionLog.load(folder))
    here, there = logs
    assert_frame_equal(there.samples, here.samples)
    for name, array in vars(here.sequences).items():
        np.testing.assert_array_equal(getattr(there.sequences, name), array)


def test_what_the_llm_says_on_workers_is_put_together_in_order(tiny_llm_folder, workers_here):
    engine = workers_here(3)
    model, prompts = with_adapter(load_model(tiny_llm_folder), blend="average"), random_prompts()
    spread, groups = replace(model, engine=engine), np.array([0, 0, 1, 1, 1, 2, 2, 0, 3])
    expected = model.all_llm_logits(prompts, 64, "")
    np.testing.assert_allclose(spread.all_llm_logits(prompts, 64, ""), expected, atol=1e-5)
    expected = score_candidates(model, prompts, groups, 64)
    np.testing.assert_allclose(score_candidates(spread, prompts, groups, 64), expected, atol=1e-5)
    llm, texts = load_model(tiny_llm_folder).llm, ["The Matrix (1999)", "", "Heat (1995)", "Net, The"]
    expected = embed_texts(llm, texts, max_tokens=8, tokens_per_batch=20)
    np.testing.assert_allclose(embed_texts(llm, texts, 8, 20, engine), expected, atol=1e-5)


def test_an_adapter_is_trained_the_same_on_a_worker(tiny_llm_folder, monkeypatch):
    """What a worker does is done here, with all that goes to it and comes back pickled."""

    def here(train, engine, step):
        return pickle.loads(cloudpickle.dumps(pickle.loads(cloudpickle.dumps(train))(ALONE)))

    monkeypatch.setattr("reclora_kedro.finetuning.training.train_together", here)
    few_shot, validation = gates_decide(51), gates_decide(41, seed=1)
    trained = []
    for where in (LOCAL, LOCAL.model_copy(update={"kind": "ray"})):
        model = with_new_adapter(load_model(tiny_llm_folder), few_shot, gate_dropout=0.0)
        log = fine_tune(replace(model, engine=where), Clicks(few_shot), validation, training_config(epochs=2))
        trained.append((adapter_weights(model.model), log["validation_auc"].drop_nulls()[-1]))
    (expected, expected_auc), (weights, auc) = trained
    assert auc == pytest.approx(expected_auc, abs=1e-6)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name])


@pytest.mark.slow
def test_a_group_that_loses_a_worker_starts_again(engine, tmp_path):
    """It takes over 5 s: Ray starts the workers of a group from nothing, twice."""

    def train(group):
        died = tmp_path / "died"
        if group.rank == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        weights = [torch.zeros(2, 3), torch.zeros(2), torch.zeros(1)]
        weights[0].grad = torch.full((2, 3), 1.0 + group.rank)
        if group.rank == 1:
            weights[1].grad = torch.tensor([5.0, 6.0])
        group.sum_gradients(weights)
        return [weight.grad for weight in weights], group.gather(torch.tensor([group.rank])), group.size

    (both, second, none), ranks, size = train_together(train, engine, "sum")
    assert both.tolist() == [[3.0] * 3] * 2
    assert second.tolist() == [5.0, 6.0]
    assert none is None
    assert ranks.tolist() == [[0], [1]]
    assert size == 2
    assert Path(tmp_path, "died").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (FloatingPointError("the loss is nan"), False),
    ],
)
def test_a_group_is_started_again_for_what_may_be_the_loss_of_a_worker_alone(error, expected):
    assert engines._Failure(error).may_be_lost_worker == expected


@pytest.mark.slow
def test_what_fails_in_one_of_a_group_ends_it_with_its_cause(engine, tmp_path):
    """It takes 5 s and more: Ray starts each worker of a group from nothing."""

    def train(group):
        with (tmp_path / "tries").open("a") as tries:
            tries.write(".")
        if group.rank == 1:
            while len((tmp_path / "tries").read_text()) < 2:  # the other one may be slower to begin
                time.sleep(0.01)
            raise FloatingPointError("the loss is nan")
        return group.sum(torch.ones(1)).item()

    with pytest.raises(ShardError, match="sum, in one of 2 workers, failed: FloatingPointError: the loss is nan"):
        train_together(train, engine, "sum")
    assert len((tmp_path / "tries").read_text()) == 2
