from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner

from named import PARAMETERS, names_with
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig, ItemEmbeddingConfig
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.llm import sentence_encoder
from reclora_kedro.pipelines.history import create_pipeline, nodes

CONF = Path(__file__).parents[2] / "conf" / "base"
HIDDEN = 6


def history_block(**changes: object) -> dict:
    text = (CONF / "parameters_history.yml").read_text().replace("${globals:seed}", "42")
    return yaml.safe_load(text)["history"] | changes


def canonical_tables(one_class: bool = False) -> dict[str, pl.DataFrame]:
    users, items, rows = 12, 30, 240
    rng = np.random.default_rng(0)
    return {
        "interactions": pl.DataFrame(
            {
                "user_id": np.arange(rows) % users,
                "item_id": rng.integers(items, size=rows),
                "rating": rng.integers(1, 6, size=rows).astype(float),
                "timestamp": np.arange(rows) // 2 + 1,
                "label": np.ones(rows, dtype=np.int8) if one_class else (np.arange(rows) // users % 2).astype(np.int8),
            }
        ),
        "items": pl.DataFrame({"item_id": range(items), "title": [f"Film {item}" for item in range(items)]}),
        "users": pl.DataFrame({"user_id": range(users)}),
    }


@pytest.fixture
def catalog_of(tmp_path, monkeypatch):
    """The shipped catalog of the step, under tmp_path, with the given tables and parameters."""
    monkeypatch.setattr(
        sentence_encoder,
        "embed_texts",
        lambda llm, texts, max_tokens, tokens_per_batch, engine: (
            np.random.default_rng(1).normal(size=(len(texts), HIDDEN)).astype(np.float32)
        ),
    )

    def build(tables: dict[str, pl.DataFrame], history: HistoryConfig) -> DataCatalog:
        text = "".join((CONF / f"catalog_{name}.yml").read_text() for name in ("history", "questions"))
        entries = yaml.safe_load(text.replace("${globals:data}", "data"))
        for entry in entries.values():
            entry["filepath"] = str(tmp_path / entry["filepath"])
        catalog = DataCatalog.from_config(entries, save_version="2026-01-01T00.00.00.000Z")
        for name, value in {
            **tables,
            "base_llm": "any",
            "sentence_encoder": "any",
            "params:history": history,
            "params:ingestion": IngestionConfig.model_validate(PARAMETERS["ingestion"]),
            "params:engine": LOCAL,
        }.items():
            catalog[name] = value
        return catalog

    return build


def small_config() -> HistoryConfig:
    return HistoryConfig(
        **history_block(
            short={
                "retrieved": {"kind": "retrieved", "k": 4},
                "dropped": None,
                "recent": {"kind": "recent", "k": 3},
            },
            prompt_rows={"unit": "rows", "few_shot": 40, "validation": 10, "test": None},
        )
    )


def test_the_step_leaves_every_artefact_in_its_agreed_form(catalog_of):
    tables, config = canonical_tables(), small_config()
    catalog = catalog_of(tables, config)
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    log = catalog.load("log")
    kept = 240 - 12 * 5
    assert log.samples["split"].value_counts(sort=True).rows() == [("train", 144), ("validation", 18), ("test", 18)]
    assert log.samples.height == kept
    assert [record["rows"] for record in catalog.load("history_report")] == [240, 240 - kept, 144, 18, 18]
    assert catalog.load("negatives_report") == []
    assert len(log.sequences.label) == 240
    assert log.items.equals(tables["items"])
    assert log.users.equals(tables["users"])
    np.testing.assert_array_equal(log.item_embeddings, catalog.load("item_embeddings")["embeddings"])
    assert log.item_embeddings.shape == (30, HIDDEN)
    assert log.item_embeddings.dtype == np.float32
    questions = [catalog.load(f"{name}_questions") for name in ("learning", "test")]
    assert [part["use"].rle().struct.unnest().rows() for part in questions] == [
        [(40, "few_shot"), (10, "validation")],
        [(18, "test")],
    ]
    for part in questions:
        columns = ["row", "user_index", "item_index", "history_end", "timestamp"]
        assert part.select(columns).equals(log.samples[part["row"]].select(columns))


def test_embeddings_survive_the_file_as_they_were(catalog_of):
    catalog = catalog_of(canonical_tables(), small_config())
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    expected = nodes.embed_items(canonical_tables()["items"], small_config(), LOCAL, "any")["embeddings"]
    np.testing.assert_array_equal(catalog.load("item_embeddings")["embeddings"], expected)


def test_near_items_are_checked_and_the_encoders_named(catalog_of):
    catalog = catalog_of(canonical_tables(), small_config())
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    [record] = catalog.load("retrieval_report")
    assert record.keys() == {"encoders", "check", "asked", "share", "chance", "lift"}
    assert record["encoders"] == "sentence_encoder"


@pytest.mark.parametrize(
    ("encoders", "entries", "width"),
    [
        (["tfidf"], [], 8),
        (["tfidf", "base_llm"], ["base_llm"], 8 + HIDDEN),
        (["base_llm", "co_occurrence"], ["base_llm", "log_without_embeddings"], HIDDEN + 8),
    ],
)
def test_encoders_are_catalog_entries_by_name_or_need_none(catalog_of, encoders, entries, width):
    block = history_block()["item_embedding"] | {"encoders": encoders, "components": 8}
    config = small_config().model_copy(update={"item_embedding": ItemEmbeddingConfig(**block)})
    catalog = catalog_of(canonical_tables(), config)
    pipeline = create_pipeline(names_with({"history.item_embedding.encoders": encoders}))
    [embedding] = pipeline.only_nodes("history.embed_items").nodes
    assert sorted(embedding.inputs) == sorted(["items", "params:engine", "params:history", *entries])
    SequentialRunner().run(pipeline, catalog)
    assert catalog.load("item_embeddings")["embeddings"].shape == (30, width)
    assert catalog.load("retrieval_report")[0]["encoders"] == ", ".join(encoders)


def test_a_log_of_one_class_is_a_log(catalog_of):
    catalog = catalog_of(canonical_tables(one_class=True), small_config())
    SequentialRunner().run(create_pipeline(names_with()), catalog)
    assert catalog.load("log").sequences.label.all()


def test_the_llm_node_is_tagged():
    assert [node.name for node in create_pipeline(names_with()).only_nodes_with_tags("gpu").nodes] == [
        "history.embed_items"
    ]
