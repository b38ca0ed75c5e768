"""A column that is declared in one place: it goes through every way in, and arrives at every reader that it names."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

from live_service import BEGIN, FILE, ITEMS, USERS, ingestion, recommender_of, service_config, small_model, small_tables
from reclora_kedro import api
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.popularity import Likes
from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig, NegativesConfig
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.history.records import prompt_records
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.ingestion.cleaning import clean_interactions
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig, ItemColumns, TextField
from reclora_kedro.ingestion.entities import describe_items
from reclora_kedro.ingestion.events import EventColumn, EventSchema
from reclora_kedro.ingestion.schema import Interactions, Items
from reclora_kedro.lens.states import LensReader
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.journal_databases import SqliteFile
from reclora_kedro.serving.journal_tables import Event, stored_events
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service
from reclora_kedro.update.updates import append_events, clean_new_events

HISTORY = HistoryConfig.model_construct(
    seed=0, min_history=1, shared_clock=True, ties="strict", rating_levels=None,
    negatives=NegativesConfig(kind="none", per_positive=1),
    split=SplitConfig(kind="global_time", train=0.6, validation=0.2),
)  # fmt: skip
READERS = ("lens", "second_stage", "prompt")
VALUES = {"number": [0.5, 2.0, 12.5], "category": ["web", "store", "phone"], "weight": [0.0, 1.0, 9.0]}
WEIGHTS = {"view": 0.0, "cart": 0.5, "buy": 2.0}
VALUES["event"] = [*WEIGHTS]
SENT, NEW_USER = 1, 777  # place of the value that is sent, and who takes an item
COLUMNS = st.builds(
    dict,
    name=st.from_regex("[a-z][a-z0-9_]{2,9}", fullmatch=True).map(lambda name: f"x{name}"),
    kind=st.sampled_from(sorted(VALUES)),
    read_by=st.lists(st.sampled_from(READERS), unique=True).map(sorted),
)


def declaring(name, **column):
    """The settings of ingestion with one further column, which the raw table names otherwise."""
    own = column | ({"weights": WEIGHTS} if column["kind"] == "event" else {})
    columns = {"user_id": "user_id", "item_id": "item_id", "rating": "rating", "timestamp": "timestamp"}
    changed = {"interactions": columns | {"timestamp_format": "unix_seconds", "columns": {name: own | {"from": "raw"}}}}
    return ingestion(**changed)


def raw_table(kind, changed=lambda place: place):
    table = small_tables()[0].drop("label")
    places = [changed(place) % 3 for place in range(table.height)]
    return table.with_columns(raw=pl.Series([VALUES[kind][place] for place in places]))


def log_of(raw, config):
    log = clean_interactions(raw, config, CleaningReport()).collect()
    Interactions.validate(log)
    schema = config.interactions.events
    return build_log(log, *small_tables()[1:], HISTORY, LOCAL, schema=schema, both_classes=False), log


def with_vectors(log):
    return log.with_embeddings(np.random.default_rng(1).normal(size=(ITEMS, 3)).astype(np.float32))


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
@given(COLUMNS)
def test_a_declared_column_goes_through_every_way_in_to_every_reader_that_it_names(tmp_path_factory, column):
    folder, name, kind = tmp_path_factory.mktemp("way in"), column["name"], column["kind"]
    config, sent = declaring(**column), VALUES[kind][SENT]
    raw = raw_table(kind)
    log, canonical = log_of(raw, config)
    assert canonical[name].to_list() == raw.sort("timestamp", "user_id")["raw"].to_list()
    log.save(folder)
    log, schema = InteractionLog.load(folder), log.sequences.schema
    assert log.sequences.schema == schema

    model = small_model(with_vectors(log), ingestion=config)
    service = Service(service_config(folder), lambda: model, Metrics())
    event = {"user": str(NEW_USER), "item": "3", "rating": 4, "time": BEGIN + 5_000, name: sent}
    with TestClient(create_app(service)) as client:
        assert client.post("/events", json={"events": [event]}).json()["accepted"] == 1
        [shown] = client.get(f"/users/{NEW_USER}").json()["latest"]
        assert shown[name] == sent
        told = client.post("/events", json={"events": [event | {name: {"no": "value"}}]})
        assert (told.status_code, told.json()["where"]) == (422, f"events.0.{name}")
        assert client.post("/events", json={"events": [event | {"unknown": 1}]}).status_code == 422
        history = {"history": [{"item": "3", "rating": 4, name: sent}], "n": 3}
        assert len(client.post("/recommend", json=history).json()["items"]) == 3
        live = service.live.current()
    own = live.log.sequences.starts[live.users[str(NEW_USER)]]
    assert live.log.sequences.schema.values_of(live.log.sequences.declared, own) == {name: sent}

    journal = JournalDataset(journal=str(folder / FILE)).load()
    new = clean_new_events(None, journal, canonical.lazy(), config, CleaningReport())
    grown = append_events(canonical.lazy(), new, config, CleaningReport()).collect()
    Interactions.validate(grown)
    assert grown.filter(user_id=NEW_USER)[name].to_list() == [sent]
    before_declared = append_events(canonical.drop(name).lazy(), new, config, CleaningReport()).collect()
    assert before_declared[name].drop_nulls().to_list() == [sent]

    users = pl.concat(
        [small_tables()[2], pl.DataFrame({"user_id": [NEW_USER], "gender": [None]})], how="diagonal_relaxed"
    )
    growth = Growth(log.sequences, BEGIN + 6_000, BEGIN + 6_000)
    updated = build_log(grown, small_tables()[1], users, HISTORY, growth=growth, schema=config.interactions.events)
    events = updated.sequences
    assert events.schema.values_of(events.declared, events.starts[USERS]) == {name: sent}
    for place in range(len(log.sequences.rating)):
        assert schema.values_of(log.sequences.declared, place) == events.schema.values_of(events.declared, place)

    visited, _ = api._with_visitors(replace(model.recommender, log=log), [[{"item_id": "3", name: sent}, 4]])
    past = visited.log.sequences
    assert [past.schema.values_of(past.declared, event) for event in (-2, -1)] == [{name: sent}, {}]

    others, _ = log_of(raw_table(kind, lambda place: place + 1), config)
    moments = log.samples.tail(20)
    for reader, read in (("lens", of_lens), ("second_stage", of_second_stage), ("prompt", of_prompts)):
        differ = read(model, log, moments) != read(model, others, moments)
        assert differ == (reader in column["read_by"]), (reader, column)
    assert (log.sequences.weights(np.arange(5)) is not None) == (kind in ("weight", "event"))


def of_lens(model, log, moments):
    return LensReader(model.lens, with_vectors(log)).logits(moments).tolist()


def of_second_stage(model, log, moments):
    return {
        name: np.nan_to_num(values).tolist() for name, values in ItemFacts(log).features(log.sequences, moments).items()
    }


def of_prompts(model, log, moments):
    questions = moments.with_columns(use=pl.lit("test"))
    return prompt_records(questions, log, log.histories(questions, WindowConfig(kind="recent", k=3)))
