"""The lens step through Kedro, with the entries of conf/base."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from named import names_with
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.questions import questions
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.pipelines import candidates
from reclora_kedro.pipelines.lens import create_pipeline
from reference_log import reference_log

LEARNING, TEST = [7, 9, 12, 20, 45], [50, 60]
CONF = Path(__file__).parents[2] / "conf" / "base"


def shipped() -> dict:
    return yaml.safe_load((CONF / "parameters_lens.yml").read_text())


@pytest.fixture
def settings() -> LensConfig:
    return LensConfig(**shipped()["lens"] | {"max_epochs": 1, "seed": 0, "device": "cpu"})


@pytest.fixture
def catalog(tmp_path: Path, settings: LensConfig) -> DataCatalog:
    random = np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(8), 10),
            "item_id": random.integers(12, size=80),
            "rating": random.integers(1, 6, size=80).astype(float),
            "timestamp": random.permutation(80) + 1,
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame({"item_id": range(12), "title": ["A title"] * 12, "genres": ["Drama, War"] * 12})
    users = pl.DataFrame({"user_id": range(8), "gender": ["F", "M"] * 4})
    log = reference_log(interactions, items, users, min_history=2)
    held_out = pl.when(pl.col("row") % 2 == 0).then(pl.lit("validation")).otherwise(pl.lit("test"))
    samples = log.samples.with_columns(split=pl.when(pl.col("row") < 40).then(pl.lit("train")).otherwise(held_out))
    inputs = {
        "log": replace(log, samples=samples, item_embeddings=random.normal(size=(12, 4))),
        "learning_questions": pl.concat(
            [questions(samples[LEARNING[:-1]], "few_shot"), questions(samples[LEARNING[-1:]], "validation")]
        ),
        "test_questions": questions(samples[TEST], "test"),
        "params:lens": settings,
        "params:engine": LOCAL,
        "params:bootstrap": Bootstrap(confidence=0.9, seed=0).model_copy(update={"samples": 100}),
    }
    text = "".join((CONF / f"catalog_{name}.yml").read_text() for name in ("lens", "questions"))
    entries = yaml.safe_load(text.replace("${globals:data}", "data"))
    for entry in entries.values():
        entry["filepath"] = str(tmp_path / entry["filepath"])
    catalog = DataCatalog.from_config(entries, save_version="2025-01-01T00.00.00.000Z")
    for name, value in inputs.items():
        catalog[name] = MemoryDataset(value)
    return catalog


def test_the_step_leaves_what_later_steps_read(catalog: DataCatalog, settings: LensConfig) -> None:
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    states, scores = catalog.load("test_states"), catalog.load("lens_scores")
    assert states["row"].tolist() == scores["row"].to_list() == TEST
    assert states["row"].dtype == torch.int64
    assert states["target"].shape == (2, settings.hidden_dim)
    assert {"user", "fields"} < set(states)
    np.testing.assert_allclose(torch.sigmoid(states["logit"]), scores["score"], rtol=1e-6)
    assert scores.schema == {"row": pl.UInt32, "score": pl.Float64}
    assert scores["score"].is_between(0, 1).all()
    learning = catalog.load("learning_states")
    assert learning["row"].tolist() == LEARNING
    assert learning.keys() == states.keys()
    assert catalog.load("lens_training_log").height == 1
    measured, *_ = catalog.load("lens_metrics")
    assert (measured["model"], measured["confidence"]) == ("lens", 0.9)
    assert catalog.load("lens").config == settings


def test_states_come_from_the_stored_lens_alone(catalog: DataCatalog) -> None:
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    stored, lens = catalog.load("test_states"), catalog.load("lens")
    for name, value in {"lens": lens, "test_states": None, "lens_scores": None}.items():
        catalog[name] = MemoryDataset() if value is None else MemoryDataset(value)
    SequentialRunner().run(create_pipeline(names_with()).only_nodes("lens.compute_test_states"), catalog)
    again = catalog.load("test_states")
    assert again.keys() == stored.keys()
    assert all(torch.equal(state, again[kind]) for kind, state in stored.items())


def test_a_lens_of_the_few_shot_rows_does_not_read_the_others(catalog: DataCatalog) -> None:
    lens = shipped()["lens"] | {"training_rows": "few_shot", "max_epochs": 1, "seed": 0, "device": "cpu"}
    catalog["params:lens"] = MemoryDataset(LensConfig(**lens))
    flow = create_pipeline(names_with({"lens": lens})).only_nodes("lens.train_lens", "lens.compute_test_states")
    log, logits = catalog.load("log"), []
    few_shot = pl.col("row").is_in(LEARNING[:-1])
    for flipped in (pl.lit(False), (pl.col("split") == "train") & ~few_shot, few_shot):
        label = pl.when(flipped).then(1 - pl.col("label")).otherwise("label")
        catalog["log"] = MemoryDataset(replace(log, samples=log.samples.with_columns(label=label)))
        for name in ("lens", "lens_training_log", "test_states", "lens_scores"):
            catalog[name] = MemoryDataset()
        SequentialRunner().run(flow, catalog)
        assert catalog.load("lens_training_log")["rows"].to_list() == [4]
        logits.append(catalog.load("test_states")["logit"])
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_a_retriever_is_trained_before_a_lens_that_learns_from_what_it_finds() -> None:
    names = names_with({"lens.retrieved_negatives": 50})
    flow = candidates.create_pipeline(names) + create_pipeline(names)
    order = [node.name for node in flow.nodes]
    assert order.index("candidates.train_retriever") < order.index("lens.train_lens")
    assert "retriever" not in create_pipeline(names_with({"lens.retrieved_negatives": 0})).inputs()
