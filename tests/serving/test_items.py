"""Items over HTTP: the next answer reads them as a run on the grown tables would, and the journal keeps them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from live_service import (
    BEGIN,
    EVENTS_PER_USER,
    FILE,
    ITEMS,
    USERS,
    embed_by_words,
    items_of,
    offline,
    recommender_of,
    second_stage,
    serving,
    small_model,
    small_tables,
)
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.serving.models import ServedModel
from reference_log import reference_log

NEW = {"item": 900, "title": "Film 7 again (1991)", "genres": "Drama"}
OTHER = {"item": 901, "title": "Film 8 <b>anew</b> (1991)", "genres": "Horror"}
GROWN = [(900, "Film 7 again (1991)", "Drama"), (901, "Film 8 anew (1991)", "Horror")]


@pytest.fixture(scope="module")
def current_model():
    return small_model()


@pytest.fixture
def client(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        yield client


def send(client, *items, method="post", status=200):
    answer = client.request(method, "/items", json={"items": [*items]})
    assert answer.status_code == status, answer.text
    return answer.json()


def listed(client, user=2, **body):
    return items_of(client.post("/recommend", json={"user": user, "n": 50} | body))


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("item_knn", "lens"),
        ("item_knn", "candidates"),
        ("popularity", "candidates"),
        ("linear", "candidates"),
        ("fusion", "candidates"),
        ("ranker", "candidates"),
        ("linear", "lens"),
    ],
)
def test_the_next_answers_are_those_of_a_run_on_the_grown_tables(tmp_path, current_model, kind, order):
    log, lens = current_model.log, current_model.lens
    stage = second_stage(log, lens) if kind in ("fusion", "ranker") else SecondStage()
    model = replace(current_model, recommender=recommender_of(log, lens, kind, order, choice={"stage": stage}))
    interactions, items, users = small_tables()
    items = pl.concat([items, pl.DataFrame(GROWN, items.schema, orient="row")])
    split = SplitConfig(kind="global_time", train=0.6, validation=0.2)
    grown = reference_log(interactions, items, users, min_history=1, split=split)
    assert grown.items.equals(items)
    vectors = embed_by_words(describe_items(items), describe_items(log.items), log.item_embeddings)
    grown = grown.with_embeddings(vectors)
    recommender = recommender_of(grown, grow_lens(lens, grown), kind, order, choice={"stage": stage})
    expected = replace(model, recommender=recommender)
    with serving(tmp_path, model) as client:
        assert send(client, NEW, OTHER) == {"stored": 2, "unchanged": 0}
        found = 0
        for user in range(USERS):
            body = {"user": user, "n": 40}
            answer = client.post("/recommend", json=body).json()
            lists = offline(expected, user, 40)
            assert [entry["item"] for entry in answer["items"]] == lists["item_id"].cast(pl.String).to_list()
            scores = [entry["score"] for entry in answer["items"]]
            np.testing.assert_allclose(np.array(scores, dtype=float), lists["score"].to_numpy(), rtol=1e-6)
            found += sum(entry["item"] in ("900", "901") for entry in answer["items"])
        assert found > 0
        assert client.get("/items", params={"q": "anew"}).json()["items"] == [{"item": "901", "title": GROWN[1][1]}]


def test_an_item_is_found_by_its_text_takes_events_and_comes_back_after_a_restart(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        event = {"user": 2, "item": 900, "rating": 5, "time": BEGIN + 1000}
        assert client.post("/events", json={"events": [event]}).json()["unknown_items"] == ["900"]
        send(client, NEW)
        near = client.get("/items/900/neighbours").json()["by_text"][0]
        assert (near["item"], near["cosine"]) == ("7", pytest.approx(1))
        assert client.get("/users/2").json()["latest"][0]["item"] == "900"
        assert "900" not in listed(client)
        assert "900" in listed(client, include_seen=True)
        before = listed(client, 3)
    with serving(tmp_path, current_model) as client:
        assert listed(client, 3) == before
        assert client.get("/users/2").json()["events"] == EVENTS_PER_USER + 1
        client.post("/model/reload")
        assert listed(client, 3) == before


def test_prices_change_within_the_next_answer_and_nothing_is_fitted_anew(tmp_path, current_model, monkeypatch):
    log = current_model.log
    log = replace(log, items=log.items.with_columns(price=pl.int_range(ITEMS).cast(pl.Float64)))
    lens = grow_lens(current_model.lens, log)
    model = replace(current_model, lens=lens, recommender=recommender_of(log, lens, order="candidates"))
    cheap = {"filter": {"price": {"max": 2}}, "include_seen": True}
    with serving(tmp_path, model) as client:
        assert {*listed(client, **cheap)} == {"0", "1", "2"}
        served = client.service.current_model
        monkeypatch.setattr(ServedModel, "with_items", lambda *_: pytest.fail("made anew"))
        assert send(client, {"item": 1, "price": 50}, {"item": "20", "price": 1.5}, method="put")["stored"] == 2
        assert {*listed(client, **cheap)} == {"0", "2", "20"}
        assert send(client, {"item": 1, "price": 50, "title": None}, method="put") == {"stored": 0, "unchanged": 1}
        assert client.service.current_model is served
        assert listed(client, rules=[{"allow": {"price": {"min": 50}}}], include_seen=True) == ["1"]
    monkeypatch.undo()
    with serving(tmp_path, model) as client:
        assert {*listed(client, **cheap)} == {"0", "2", "20"}


def test_a_withdrawn_item_is_recommended_to_nobody_until_it_is_offered_again(tmp_path, current_model):
    asked = ({}, {"candidates": ["7", "8", "9"]}, {"rules": [{"pin": "7"}]}, {"include_seen": True})
    with serving(tmp_path, current_model) as client:
        assert "7" in listed(client, include_seen=True)
        assert client.delete("/items/ 7").json()["item"] == "7"
        assert not any("7" in listed(client, user, **body) for body in asked for user in range(USERS))
        similar = client.get("/items/8/similar", params={"limit": 40}).json()["similar"]
        assert "7" not in [each["item"] for each in similar]
        assert client.delete("/items/77").status_code == 404
    with serving(tmp_path, current_model) as client:
        assert "7" not in listed(client, include_seen=True)
        send(client, {"item": 7, "withdrawn": False}, method="put")
        assert "7" in listed(client, include_seen=True)


def test_what_is_forgotten_of_an_item_is_in_no_file_and_in_no_answer(tmp_path, current_model):
    secret = "Unspeakable"
    with serving(tmp_path, current_model) as client:
        send(client, NEW | {"genres": secret})
        send(client, {"item": 900, "genres": f"{secret}, Drama"}, method="put")
        assert client.delete("/items/900", params={"forget": True}).status_code == 200
        assert client.get("/items/900/neighbours").status_code == 404
        files = [file for file in tmp_path.iterdir() if file.name.startswith(FILE)]
        assert files
        assert not any(secret.encode() in file.read_bytes() for file in files)
        assert send(client, NEW, status=409)["found"] == "900"
        send(client, NEW | {"withdrawn": False}, method="put")
        assert "900" in listed(client)


@pytest.mark.parametrize("kind", ["file", "server"])
def test_items_are_stored_once_and_every_service_of_the_journal_reads_them(request, tmp_path, current_model, kind):
    journal = tmp_path if kind == "file" else request.getfixturevalue("postgres")
    with serving(journal, current_model) as client, serving(journal, current_model) as other:
        send(client, NEW)
        assert send(client, NEW) == {"stored": 0, "unchanged": 1}
        assert send(client, NEW | {"genres": "War"}, status=409)["found"] == "900"
        send(client, {"item": 900, "genres": "War"}, {"item": 3, "title": "Film 4 (1990)"}, method="put")
        [row, of_known] = client.service.journal.content().events
        assert row.columns == '{"genres": "War", "title": "Film 7 again (1991)"}'
        assert of_known.columns == '{"title": "Film 4 (1990)"}'
        other.get("/health/ready")  # which looks into the journal
        other.service.take_items()
        assert listed(other) == listed(client)
        assert other.get("/items/3/neighbours").json()["title"] == "Film 4 (1990)"


@pytest.mark.parametrize(
    ("method", "item", "status", "words"),
    [
        ("post", {"item": 5, "title": "Film"}, 409, "There is an item '5'"),
        ("post", {"item": "x", "title": "Film"}, 422, "it must be a whole number"),
        ("post", {"item": "090", "title": "Film"}, 422, "/items/1/item"),
        ("post", {"item": 90}, 422, "a new item needs a title"),
        ("put", {"item": 90, "genres": "War"}, 422, "a new item needs a title"),
        ("put", {"item": 90, "title": "<b></b>"}, 422, "no title"),
        ("put", {"item": 5, "title": 7}, 422, "/items/1/title"),
        ("put", {"item": 5, "colour": "red"}, 422, "items have title, genres and withdrawn"),
        ("put", {"item": 5, "genres": ["War"]}, 422, "it must be a text"),
        ("put", {"item": 5, "withdrawn": "yes"}, 422, "/items/1/withdrawn"),
    ],
)
def test_unfit_items_are_refused_and_nothing_is_stored(client, method, item, status, words):
    before = listed(client)
    problem = send(client, NEW, item, method=method, status=status)
    assert words in problem["detail"]
    assert client.service.journal.content().events == []
    assert listed(client) == before
