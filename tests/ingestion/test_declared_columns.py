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
from reclora_kedro.ingestion.config import ItemColumns, TextField
from reclora_kedro.ingestion.entities import describe_items
from reclora_kedro.ingestion.events import EventColumn, EventSchema
from reclora_kedro.ingestion.schema import Interactions, Items
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.models import twin
from reclora_kedro.lens.states import LensReader
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.journal_databases import PostgresDatabase, SqliteFile
from reclora_kedro.serving.journal_tables import Event, JournalError, add_event, stored_events
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service
from reclora_kedro.update.forgetting import Tables, forget_in_lens, forget_in_log
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
    return build_log(log, *small_tables()[1:], HISTORY, LOCAL, schema=schema), log


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
        later = event | {"user": str(NEW_USER + 1), name: VALUES[kind][0]}  # which weighs nothing, if it weighs
        assert client.post("/events", json={"events": [later]}).json()["accepted"] == 1
        told = client.post("/events", json={"events": [event | {name: {"no": "value"}}]})
        assert (told.status_code, told.json()["errors"][0]["where"]) == (422, f"/events/0/{name}")
        assert client.post("/events", json={"events": [event | {"unknown": 1}]}).status_code == 422
        history = {"history": [{"item": "3", "rating": 4, name: sent}], "n": 3}
        assert len(client.post("/recommend", json=history).json()["items"]) == 3
        live = service.live.current()
    own, other = (live.log.sequences.starts[live.users[str(NEW_USER + place)]] for place in (0, 1))
    assert live.log.sequences.label[[own, other]].tolist() == [1, kind in ("number", "category")]
    assert live.log.sequences.schema.values_of(live.log.sequences.declared, own) == {name: sent}

    journal = JournalDataset(journal=str(folder / FILE)).load()
    new = clean_new_events(None, journal, canonical.lazy(), config, CleaningReport())
    grown = append_events(canonical.lazy(), new, config, CleaningReport()).collect()
    Interactions.validate(grown)
    assert grown.filter(user_id=NEW_USER)[name].to_list() == [sent]
    assert grown.filter(user_id=NEW_USER + 1)["label"].to_list() == [kind in ("number", "category")]
    grown = grown.filter(pl.col("user_id") != NEW_USER + 1)
    before_declared = append_events(canonical.drop(name).lazy(), new, config, CleaningReport()).collect()
    assert before_declared[name].drop_nulls().to_list() == [sent, VALUES[kind][0]]

    users = pl.concat(
        [small_tables()[2], pl.DataFrame({"user_id": [NEW_USER], "gender": [None]})], how="diagonal_relaxed"
    )
    growth = Growth(log.sequences, BEGIN + 6_000, BEGIN + 6_000)
    updated = build_log(grown, small_tables()[1], users, HISTORY, growth=growth, schema=config.interactions.events)
    events = updated.sequences
    assert events.schema.values_of(events.declared, events.starts[USERS]) == {name: sent}
    for place in range(len(log.sequences.rating)):
        assert schema.values_of(log.sequences.declared, place) == events.schema.values_of(events.declared, place)

    visited, _ = api.with_visitors(replace(model.recommender, log=log), [[{"item_id": "3", name: sent}, 4]])
    past = visited.log.sequences
    assert [past.schema.values_of(past.declared, event) for event in (-2, -1)] == [{name: sent}, {}]

    others, _ = log_of(raw_table(kind, lambda place: (0, 2, 1)[place % 3]), config)  # with the same likes
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


def weighing(raw, **column):
    log, _ = log_of(raw, declaring("count", **column))
    return log


def scores_of(log):
    recommender = recommender_of(with_vectors(log), small_model(with_vectors(log)).lens, "fusion", "candidates")
    moments = recommender.moments(log.now(pl.DataFrame({"user_index": range(USERS)}, {"user_index": pl.Int32})))
    scores = (model.scores(moments) for model in recommender.sources.values())
    return [each if isinstance(each, np.ndarray) else each.toarray() for each in scores]


def test_equal_weights_are_as_none_and_an_event_that_weighs_nothing_counts_nothing():
    raw = small_tables()[0].drop("label")
    plain, _ = log_of(
        raw,
        ingestion(interactions=declaring("x", kind="number").interactions.of_service().model_dump() | {"columns": {}}),
    )
    equal = weighing(raw.with_columns(raw=7.0), kind="weight")
    assert equal.sequences.weights(np.arange(3)).tolist() == [1, 1, 1]
    for of_plain, of_equal in zip(scores_of(plain), scores_of(equal), strict=True):
        np.testing.assert_array_equal(of_plain, of_equal)
    unwanted = pl.col("item_id") == 3
    without = weighing(raw.with_columns(raw=pl.when(unwanted).then(0.0).otherwise(7.0)), kind="weight")
    assert Training.from_log(without).users[3] == 0 < Training.from_log(plain).users[3]
    assert all((scores[:, 3] == 0).all() for scores in scores_of(without)[:2])  # popularity and item-kNN without texts


@pytest.mark.parametrize("kind", ["weight", "event"])
def test_an_event_that_weighs_nothing_is_no_like_of_the_log_and_of_its_samples(kind):
    raw, config = raw_table(kind), declaring("count", kind=kind)
    weighs_nothing = pl.col("raw") == VALUES[kind][0]
    raw = raw.with_columns(raw=pl.when(pl.col("item_id") > 2).then("raw"))  # else it counts 1
    report = CleaningReport()
    cleaned = clean_interactions(raw, config, report).collect()
    expected = raw.sort("timestamp", "user_id").select((pl.col("rating") >= 4) & ~weighs_nothing.fill_null(False))
    assert cleaned["label"].to_list() == expected.to_series().cast(int).to_list()
    [told] = (each for each in report.records() if each["check"] == "positives")
    assert told["rows"] == cleaned["label"].sum() < (raw["rating"] >= 4).sum()
    assert told["rule"].startswith("label 1: rating >= 4, unless 0 in count; ")
    log, _ = log_of(raw, config)
    assert (
        log.samples["label"].sum()
        < log_of(raw.with_columns(raw=pl.lit(VALUES[kind][2])), config)[0].samples["label"].sum()
    )


def test_a_user_counts_by_the_weightiest_like_so_far():
    columns = (np.zeros(3, int), np.zeros(3, int), np.array([1, 5, 9]))
    spans = Likes.from_events(*columns, np.array([0.5, 2.0, 1.0], dtype=np.float32)).spans(None)
    assert spans.counts(np.array([1, 2, 6, 10]), 1)[:, 0].tolist() == [0, 0.5, 2, 2]
    in_window = Likes.from_events(*columns, np.array([0.5, 2.0, 1.0], dtype=np.float32)).spans(5)
    assert in_window.counts(np.array([2, 6, 14, 15]), 1)[:, 0].tolist() == [0.5, 2, 2, 0]


def test_values_that_no_event_may_have_are_dropped_and_missing_ones_stay():
    raw = small_tables()[0].drop("label").with_columns(raw=pl.int_range(pl.len()).cast(pl.Float64))
    unfit = pl.col("raw").replace({0.0: float("nan"), 1.0: -3.0, 2.0: float("inf")})
    report = CleaningReport()
    cleaned = clean_interactions(raw.with_columns(unfit), declaring("plays", kind="weight"), report).collect()
    assert (cleaned.height, cleaned["plays"].null_count()) == (raw.height - 2, 1)
    assert report.rows("plays not a number, 0 or greater") == 2


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"rating": {"kind": "number"}}, "rating is a name that every log uses"),
        ({"price": {"kind": "money"}}, "number"),
        ({"price": {"kind": "event"}}, "columns of kind event have weights"),
        ({"price": {"kind": "number", "weights": {"a": 1}}}, "columns of kind event have weights"),
        ({"price": {"kind": "event", "weights": {"view": -1}}}, "greater than or equal to 0"),
        ({"Price €": {"kind": "number"}}, "pattern"),
        ({"genres": {"kind": "category"}}, "occur twice or name a fixed column"),
    ],
)
def test_a_column_that_cannot_be_is_refused(columns, told):
    interactions = declaring("x", kind="number").interactions.model_dump() | {"columns": columns}
    with pytest.raises(ValidationError, match=told):
        ingestion(interactions=interactions)


def test_the_values_of_the_journal_are_under_its_checksum(tmp_path):
    database = SqliteFile(str(tmp_path / FILE))
    with closing(database.connect()) as connection:
        events = [Event("a", "7", "50", 4.0, 9, None, '{"price": 2.5}'), Event("b", "7", "51", 4.0, 9)]
        for event in events:
            add_event(connection, event)
        assert stored_events(connection) == events
        connection.driver.execute("""UPDATE events SET columns = '{"price": 0.5}' WHERE event_id = 'a'""")
        with pytest.raises(JournalError, match="damaged"):
            stored_events(connection)


def test_a_database_of_an_earlier_release_gets_the_column(postgres):
    with closing(PostgresDatabase(postgres).connect()) as connection:
        connection.driver.execute("ALTER TABLE events DROP COLUMN columns")
    with closing(PostgresDatabase(postgres).connect()) as connection:
        add_event(connection, event := Event("a", "7", "50", 4.0, 9, None, '{"price": 2.5}'))
        assert stored_events(connection) == [event]


def test_a_number_of_the_items_reaches_lens_second_stage_and_prompts():
    fields = [TextField(name="price", column="cost", kind="number")]
    columns = ItemColumns(item_id="id", title="name", missing_title="?", trailing_articles=[], fields=fields)
    raw = pl.DataFrame({"id": range(ITEMS), "name": "Thing", "cost": ["1.5", None, *["3"] * (ITEMS - 2)]})
    interactions = small_tables()[0]
    items = Items.validate(describe_items(raw, interactions.lazy(), columns, CleaningReport()))
    assert items["price"].to_list()[:3] == [1.5, None, 3.0]
    log = with_vectors(build_log(interactions, items, small_tables()[2], HISTORY))
    model, samples = small_model(log), log.samples.tail(20)
    assert model.lens.sizes.item_numbers == ("price",)
    dearer = replace(
        log, items=items.with_columns(pl.when(pl.col("item_id") != 1).then(pl.col("price").fill_null(9) ** 2))
    )
    grown = grow_lens(model.lens, dearer)
    assert not torch.equal(LensReader(grown, dearer).logits(samples), LensReader(model.lens, log).logits(samples))
    assert (
        of_second_stage(model, log, samples)["price_of_item"]
        != of_second_stage(model, dearer, samples)["price_of_item"]
    )
    assert of_prompts(model, log, samples) != of_prompts(model, dearer, samples)


def test_codes_of_a_category_stay_when_a_log_grows_and_lose_their_name_with_their_events():
    schema = EventSchema((EventColumn(name="shop", kind="category"),))
    first = schema.coded(pl.LazyFrame({"shop": ["web", "web", "store", None]}))
    assert first.declared[0].values == ("web", "store")
    later = schema.after(first).coded(pl.LazyFrame({"shop": ["store", "phone"]}))
    assert later.declared[0].values == ("", "store", "phone")
    assert later.declared[0].encoded(pl.Series(["phone", None, "web"])).tolist() == [3, 0, 0]


def test_a_text_that_only_a_forgotten_user_had_leaves_log_and_lens():
    raw = raw_table("category").with_columns(
        raw=pl.when(pl.col("user_id") == 5).then(pl.lit("secret")).otherwise("raw")
    )
    log, canonical = log_of(raw, declaring("shop", kind="category"))
    others, lens = pl.col("user_id") != 5, small_model(with_vectors(log)).lens
    left = Tables(canonical.filter(others).lazy(), small_tables()[1], small_tables()[2].filter(others))
    after = forget_in_log(left, log, HISTORY)
    [before], [now] = log.sequences.schema.declared, after.sequences.schema.declared
    code = before.values.index("secret")
    assert now.values == (*before.values[:code], "", *before.values[code + 1 :])
    kept = forget_in_lens(lens, with_vectors(log), with_vectors(after))
    [table], [former] = kept.event_tables, lens.event_tables
    place = 1 + lens.sizes.event_values["shop"].index(code + 1)
    assert torch.equal(table.weight[place], former.weight[0])
    assert not torch.equal(former.weight[place], former.weight[0])
    rest = [row for row in range(len(former.weight)) if row != place]
    assert torch.equal(table.weight[rest], former.weight[rest])


@pytest.mark.parametrize("model", LENS_MODELS.modules())
@pytest.mark.parametrize("kind", ["number", "category"])
def test_every_lens_reads_declared_columns(monkeypatch, model, kind):
    monkeypatch.setattr(twin, "RETRIEVED", 2)
    log, _ = log_of(raw_table(kind), declaring("price", kind=kind))
    others, _ = log_of(raw_table(kind, lambda place: place + 1), declaring("price", kind=kind))
    log, others, samples = with_vectors(log), with_vectors(others), log.samples.tail(20)
    lens = small_model(log, {"model": model, "item_text": model == "text_transformer"}).lens
    logits = [LensReader(lens, each).logits(samples) for each in (log, others)]
    assert all(each.isfinite().all() for each in logits)
    assert not torch.equal(*logits)
