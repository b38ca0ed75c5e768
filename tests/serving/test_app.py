"""The promises of the routes: events count in the next answer, numbers are those of a run, faults are problems."""

import asyncio
import json
import os
import signal
import sqlite3
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from threading import Barrier, Thread, get_ident, main_thread
from threading import Event as Signal
from time import monotonic, sleep, time
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
import torch

from live_service import (
    BEGIN,
    FILE,
    ITEMS,
    SOURCES,
    USERS,
    block,
    ingestion,
    items_in,
    items_of,
    offline,
    recommender_of,
    second_stage,
    serving,
    small_log,
    small_model,
)
from reclora_kedro.candidates import retriever
from reclora_kedro.candidates.item_knn import REASON_SHARE
from reclora_kedro.candidates.next_item import reader
from reclora_kedro.candidates.next_item.base import fresh_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.reader import RetrieverReader
from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.ingestion.forgotten import NOBODY
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.recommendation.delivery import items_of_users, lists_for_users
from reclora_kedro.recommendation.recommender import REASONS
from reclora_kedro.recommendation.rules import Rule
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.visitors import similar_items
from reclora_kedro.serving import live_log as live_log_module
from reclora_kedro.serving.app import _reload_when_told
from reclora_kedro.serving.guard import Tokens
from reclora_kedro.serving.journal import Changes, Content, UserContent
from reclora_kedro.serving.journal_databases import erase_events
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.models import Snapshot
from reclora_kedro.serving.service import ReloadRefusedError, RequestExpiredError


@pytest.fixture(scope="module")
def current_model():
    return small_model()


@pytest.fixture
def client(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        yield client


@contextmanager
def standing_still(client):
    """A pool of threads to ask from while the service answers nothing, and what has it go on."""
    with ThreadPoolExecutor(8) as pool:
        begun, go_on = Barrier(2), Signal()
        held = pool.submit(client.portal.call, client.service.look, lambda now: (begun.wait(5), go_on.wait(5)))
        begun.wait(5)
        yield pool, go_on
        held.result(5)


def with_recommender(current_model, *method, **changes):
    return replace(current_model, recommender=recommender_of(current_model.log, current_model.lens, *method, **changes))


def of_kind(current_model, kind):
    """The current model with a trained second stage, where the kind is one, in its own order."""
    stage = second_stage(current_model.log, current_model.lens) if kind in ("fusion", "ranker") else SecondStage()
    return with_recommender(current_model, kind, "candidates", choice={"stage": stage})


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("item_knn", "lens"),
        ("item_knn", "candidates"),
        ("popularity", "candidates"),
        ("linear", "candidates"),
        ("fusion", "candidates"),
        ("ranker", "candidates"),
    ],
)
def test_recommendations_are_those_of_the_recommendation_step(tmp_path, current_model, kind, order):
    current_model = of_kind(current_model, kind) if order == "candidates" else current_model
    with serving(tmp_path, current_model) as client:
        body = {"requests": [{"user": user, "n": 3 + user} for user in range(5)]}
        for user, answer in enumerate(client.post("/recommend", json=body).json()["answers"]):
            expected = offline(current_model, user, 3 + user)
            assert [int(entry["item"]) for entry in answer["items"]] == expected["item_id"].to_list()
            assert [entry["rank"] for entry in answer["items"]] == expected["rank"].to_list()
            scores = [entry["score"] for entry in answer["items"]]
            np.testing.assert_allclose(scores, expected["score"], atol=1e-5)
            assert scores == sorted(scores, reverse=True)
            assert answer["fallback"] is None


REQUESTS = (
    [{"user": 1}, {"user": 1}],
    [{"user": 1}] * 4,
    [{"user": 1}, {"user": 1, "filter": {"genres": ["Drama"]}}, {"user": 1, "exclude": ["3", "5", "7"], "n": 4}],
    [
        {"user": 2, "include_seen": True},
        {"history": [{"item": "3", "rating": 5, "time": BEGIN + 500}]},
        {"user": 2},
        {"history": [{"item": "4", "rating": 5, "time": BEGIN + 500}], "exclude": ["3"]},
        {"user": "nobody", "n": 5},
        {"user": 2, "candidates": ["1", "2", "3"]},
        {"user": 5, "n": 25},
    ],
)
"""Of one user several times, also by other rules, and of visitors beside known and unknown users."""


@pytest.mark.parametrize("kind", ["fusion", "ranker", "item_knn"])
@pytest.mark.parametrize("diversity", [0, 0.5])
def test_a_request_is_answered_beside_others_as_it_is_alone(tmp_path, current_model, kind, diversity):
    recommendation = current_model.recommendation.model_copy(update={"diversity": diversity})
    current_model = of_kind(current_model, kind)
    current_model = replace(current_model, recommender=replace(current_model.recommender, config=recommendation))
    with serving(tmp_path, current_model) as client:
        for requests in REQUESTS:
            alone = [client.post("/recommend", json=request).json() for request in requests]
            together = client.post("/recommend", json={"requests": requests}).json()["answers"]
            for one, other in zip(alone, together, strict=True):
                assert [entry["item"] for entry in one["items"]] == [entry["item"] for entry in other["items"]]
                assert one["fallback"] == other["fallback"]


@pytest.mark.parametrize(("kind", "order"), [("fusion", "candidates"), ("ranker", "candidates"), ("linear", "lens")])
def test_scores_fall_with_the_rank_or_there_are_none(tmp_path, current_model, kind, order):
    current_model = with_recommender(
        of_kind(current_model, kind), kind, order, choice={"stage": second_stage(current_model.log, current_model.lens)}
    )
    with serving(tmp_path, current_model) as client:
        answers = [client.post("/recommend", json={"user": user, "n": ITEMS}).json() for user in (0, 5, "nobody")]
    for answer in answers:
        model = "popularity" if answer["fallback"] else "lens" if order == "lens" else kind
        assert [answer[name] for name in ("method", "order", "model")] == [kind, order, model]
        scores = [entry["score"] for entry in answer["items"]]
        assert (answer["score_is"] is None) == (set(scores) == {None})
        assert answer["score_is"] is None or (answer["score_is"] == "probability of a like") == (order == "lens")
        given = [score for score in scores if score is not None]
        assert given == sorted(given, reverse=True) == scores[: len(given)]
        assert bool(given) == (answer["fallback"] is None)


def test_an_index_that_reads_all_its_lists_recommends_what_exact_scores_do(tmp_path, current_model, monkeypatch):
    monkeypatch.setattr(reader, "SEARCHED_SHARE", 1)
    log = current_model.log
    items = torch.from_numpy(log.sequences.item_index[log.training_events()].astype(np.int64))
    config = RetrieverConfig.model_validate(block("candidates", "retriever", device="cpu", dim=8))
    trained = fresh_retriever(torch.from_numpy(log.item_text_vectors()), items, config).freeze()
    settings = {"choice": {"sources": {"retriever": {}}}, "retriever": trained, "top_n": 6, "shortlist": 8}
    exact = with_recommender(current_model, "retriever", "candidates", **settings)
    monkeypatch.setattr(retriever, "INDEXED_FROM", ITEMS)
    indexed = with_recommender(current_model, "retriever", "candidates", **settings)

    def no_scores_of_all(self, moments):
        raise AssertionError

    expected = [offline(exact, user, 6)["item_id"].to_list() for user in range(3)]
    assert [offline(indexed, user, 6)["item_id"].to_list() for user in range(3)] == expected
    with serving(tmp_path, indexed) as client:
        monkeypatch.setattr(RetrieverReader, "blocks", no_scores_of_all)
        answers = [items_of(client.post("/recommend", json={"user": user, "n": 6})) for user in range(3)]
        assert [[int(item) for item in items] for items in answers] == expected
        without = client.post("/recommend", json={"user": 0, "n": 5, "exclude": [answers[0][0]]})
        assert answers[0][0] not in items_of(without)


@pytest.mark.parametrize("order", ["lens", "candidates"])
def test_diverse_recommendations_are_those_of_the_recommendation_step(tmp_path, current_model, order):
    plain, diverse = (with_recommender(current_model, "item_knn", order, diversity=diversity) for diversity in (0, 0.7))
    with serving(tmp_path, diverse) as client:
        answers = [client.post("/recommend", json={"user": user, "n": 4}).json()["items"] for user in range(5)]
    items = [[int(entry["item"]) for entry in answer] for answer in answers]
    assert items == [offline(diverse, user, 4)["item_id"].to_list() for user in range(5)]
    assert items != [offline(plain, user, 4)["item_id"].to_list() for user in range(5)]
    assert {entry["score"] for answer in answers for entry in answer} == {None}


def test_the_items_of_a_table_are_recommended_as_by_the_recommendation_step_also_those_that_a_user_took(
    tmp_path, current_model
):
    table = pl.DataFrame({"user_id": ["2"] * 6 + ["99"], "item_index": [*range(6), 4]})
    lists, _ = lists_for_users(current_model.recommender, None, 20, table)
    listed = replace(current_model, table=items_of_users(table, pl.String()))
    with serving(tmp_path, listed) as client:
        answers = [client.post("/recommend", json={"user": user}).json() for user in ("2", "99", "3")]
    expected = [lists.filter(user_id=user)["item_id"].cast(pl.String).to_list() for user in (2, 99, 3)]
    assert [[entry["item"] for entry in answer["items"]] for answer in answers] == expected
    assert [answer["fallback"] for answer in answers] == [None, "unknown_user", "no_candidates"]


def test_an_event_that_adds_little_to_a_score_is_no_reason(client):
    body = {"user": "2", "n": ITEMS, "explain": True}
    shares = []
    for entry in client.post("/recommend", json=body).json()["items"]:
        weights = [near["weight"] for near in entry["because"]["neighbours"]]
        shares += [weights[-1] / sum(weights)] if len(weights) == REASONS else []
    assert shares
    assert min(shares) > REASON_SHARE


def test_an_event_counts_in_the_very_next_answer(client, current_model):
    before = client.post("/recommend", json={"user": "2", "n": 3, "explain": True}).json()
    taken = before["items"][0]["item"]
    response = client.post("/events", json={"events": [{"user": 2, "item": taken, "rating": 5, "event_id": "a"}] * 2})
    assert response.json() == {"accepted": 1, "duplicates": 1, "of_forgotten_users": 0, "unknown_items": []}
    after = client.post("/recommend", json={"user": "2", "n": 3, "explain": True}).json()
    assert taken not in {entry["item"] for entry in after["items"]}
    assert after["as_of"] > before["as_of"]
    user = client.get("/users/2").json()
    assert (user["latest"][0]["item"], user["latest"][0]["liked"], user["events"]) == (taken, True, 15)
    [reason] = [entry["because"] for entry in after["items"][:1]]
    own = user["latest"] if user["events"] <= 20 else []
    assert (reason["user_ratings"], reason["user_likes"]) == (15, sum(event["liked"] for event in own))
    assert taken in {near["item"] for entry in after["items"] for near in entry["because"]["neighbours"]}


def test_reasons_count_the_events_of_an_item_that_are_of_new_accounts(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        client.post("/events", json={"events": [{"user": user, "item": "7", "rating": 5} for user in (900, 901, 3)]})
        body = {"user": "4", "candidates": ["7"], "include_seen": True, "explain": True}
        [because] = [entry["because"] for entry in client.post("/recommend", json=body).json()["items"]]
        assert because["item_ratings_by_new_users"] == 2 < because["item_ratings"]
        page = client.get("/page/user", params={"user": "4"}).text
    assert ("of the item's are of new accounts" in page) == (">Film 7 (1990)<" in page.partition("<ol>")[2])


def test_an_event_changes_what_the_linear_model_recommends_next(tmp_path, current_model):
    with serving(tmp_path, of_kind(current_model, "linear")) as client:
        before = items_of(client.post("/recommend", json={"user": "2", "n": 5}))
        client.post("/events", json={"events": [{"user": 2, "item": before[-1], "rating": 5}]})
        after = items_of(client.post("/recommend", json={"user": "2", "n": 4}))
    assert before[-1] not in after
    assert after != before[:4]


def test_a_new_user_is_known_from_the_first_event_on_and_so_after_a_restart(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        popular = client.post("/recommend", json={"user": "new", "n": 2})
        assert (popular.json()["fallback"], popular.json()["items"][0]["score"]) == ("unknown_user", None)
        assert client.post("/events", json={"events": [{"user": "new", "item": "1", "rating": 5}]}).status_code == 422
        client.post("/events", json={"events": [{"user": "900", "item": item, "rating": 5} for item in "123"]})
    with serving(tmp_path, current_model) as client:
        answer = client.post("/recommend", json={"user": 900, "n": 2})
        assert answer.json()["fallback"] is None
        assert 0 < answer.json()["items"][0]["score"] < 1
        assert client.get("/users/900").json()["lens_has_learned_from_user"] is False


def test_a_model_without_a_lens_answers_all_but_scores(tmp_path, current_model):
    lists = replace(of_kind(current_model, "fusion"), lens=None, versions={"log": "2026-01-01T00.00.00.000Z"})
    with serving(tmp_path, lists) as client:
        before = client.post("/recommend", json={"user": "2", "n": 3, "explain": True}).json()
        [taken, *_] = items_in(before)
        assert before["model"] == "fusion"
        assert taken == str(offline(lists, 2, 3)["item_id"][0])
        client.post("/events", json={"events": [{"user": user, "item": taken, "rating": 5} for user in (2, 900)]})
        after = client.post("/recommend", json={"user": "2", "n": 3, "explain": True}).json()
        assert taken not in items_in(after)
        because = after["items"][0]["because"]
        assert (because["user_ratings"], taken in {near["item"] for near in because["neighbours"]}) == (15, True)
        assert client.get("/users/900").json()["lens_has_learned_from_user"] is None
        assert client.post("/recommend", json={"user": "900", "n": 3}).json()["fallback"] is None
        refused = client.post("/score", json={"user": "2", "items": [taken]})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:reclora:no-lens")
        assert "kedro run --pipelines lens" in refused.json()["detail"]
        assert client.get("/health/ready").json() == {"status": "ready", "version": lists.name, "lens": False}
        assert client.post("/model/reload").json() == {"version": lists.name, "changed": False}
        pages = ["/", "/docs", "/page/start", "/page/user?user=2", "/page/user?user=900", "/page/champion", "/model"]
        pages += ["/items?q=film", "/items/3/neighbours", "/items/3/similar", "/metrics"]
        assert [client.get(page).status_code for page in pages] == [200] * len(pages)
        assert "the lens has" not in client.get("/page/user?user=2").text
    with serving(tmp_path, current_model) as client:
        assert client.get("/health/ready").json()["lens"] is True


def test_a_history_is_answered_as_a_user_with_it_would_be_and_stores_nothing(client):
    events = [{"item": item, "rating": 5 - place % 2, "time": BEGIN + 300 + place} for place, item in enumerate("4826")]
    visitor = client.post("/recommend", json={"history": events, "n": 5})
    client.post("/events", json={"events": [event | {"user": 77} for event in events]})
    user = client.post("/recommend", json={"user": 77, "n": 5})
    assert items_of(visitor) == items_of(user)
    scored = [client.post("/score", json=whom | {"items": ["9", "11"]}) for whom in ({"user": 77}, {"history": events})]
    np.testing.assert_allclose(*([entry["score"] for entry in each.json()["scores"]] for each in scored), atol=1e-6)
    assert len(client.service.current_model.log.users) == USERS


def test_what_a_visitor_was_shown_and_did_not_click_is_not_taken(tmp_path, current_model):
    columns = block("ingestion")["interactions"] | {"rating": None, "clicked": "clicked"}
    with serving(tmp_path, replace(current_model, ingestion=ingestion(interactions=columns))) as client:

        def answers(*history):
            lists = client.post("/recommend", json={"history": history, "n": ITEMS, "explain": True}).json()
            return lists["items"], client.post("/score", json={"history": history, "items": ["9"]}).json()["scores"]

        shown, clicked = (answers({"item": "4", "clicked": is_clicked}) for is_clicked in (False, True))
        assert shown == answers()
        assert {entry["item"] for entry in shown[0]} - {entry["item"] for entry in clicked[0]} == {"4"}


def test_what_a_request_rules_out_is_not_recommended(client):
    every = items_of(client.post("/recommend", json={"user": 1, "n": ITEMS}))
    assert len(every) == 16
    left = client.post("/recommend", json={"user": 1, "n": 4, "exclude": every[:3], "filter": {"genres": ["Drama"]}})
    assert len(items_of(left)) == 4
    assert not {*items_of(left)} & {*every[:3]}
    assert all(int(item) % 3 < 2 for item in items_of(left))
    chosen = client.post("/recommend", json={"user": 1, "candidates": every[5:8]})
    assert {*items_of(chosen)} == {*every[5:8]}
    none = client.post("/recommend", json={"user": 1, "candidates": every[:1], "exclude": every[:1]})
    assert (none.json()["items"], none.json()["fallback"]) == ([], "nothing_allowed")
    seen = client.post("/recommend", json={"user": 1, "n": ITEMS, "include_seen": True})
    assert len(items_of(seen)) == ITEMS


def test_a_snapshot_brought_up_to_date_is_one_taken_anew(current_model):
    live = LiveLog(current_model.log, current_model.ingestion, Content([], {}))
    now = Snapshot.take(current_model, live)
    one = Event("a", "2", "7", 5.0, BEGIN + 999)
    changes = (
        Changes([one]),
        Changes([Event("late", "4", "7", 1.0, BEGIN + 9), Event("better", "2", "7", 4.0, BEGIN + 999)]),
        Changes([], {"2": UserContent([one._replace(rating=1.0)], None)}),
        Changes([Event(f"new {user}", str(user), str(user % ITEMS), 3.0, BEGIN + user) for user in range(500, 800)]),
        Changes([], {"2": UserContent([], BEGIN + 10_000), "501": UserContent([], BEGIN + 10_000)}),
        Content([one], {"3": BEGIN + 10_000}),
        Changes([Event("b", "3", "8", 2.0, BEGIN + 20_000)]),
    )
    pairs = pl.DataFrame({"user_index": np.repeat(range(5), ITEMS), "item_index": np.tile(range(ITEMS), 5)})
    for change in changes:
        live.apply(change)
        before, now = now, now.brought_up_to_date()
        anew = Snapshot.take(current_model, live)
        asked = now.log.now(pairs)
        assert now.current is anew.current is not before.current
        assert now.brought_up_to_date() is now
        np.testing.assert_array_equal(now.lens_scores(asked), anew.lens_scores(asked))
        of_users = asked.unique("user_index", maintain_order=True)
        lists = [each.recommender.best_lists(each.recommender.moments(of_users), 10) for each in (now, anew)]
        for found, expected in zip(*lists, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_what_a_user_changes_costs_no_more_than_their_events(current_model, monkeypatch):
    monkeypatch.setattr(live_log_module, "LEAST_RATIO", 2)  # as in a log with more events
    live = LiveLog(current_model.log, current_model.ingestion, Content([], {}))
    before = Snapshot.take(current_model, live)
    for content in (UserContent([Event("a", "2", "7", 5.0, BEGIN + 999)], None), UserContent([], BEGIN + 10_000)):
        live.apply(Changes([], {"2": content}))
        now = before.brought_up_to_date()
        assert now.lens is before.lens
        for events in (lambda each: each.log.sequences.label, lambda each: each.log.sequences.parts[0]):
            assert events(now) is events(before)  # of the whole log
        assert now.recommender.knn.by_users.shared._taken is before.recommender.knn.by_users.shared._taken
        before = now


@pytest.mark.parametrize("kind", ["file", "server"])
def test_services_of_one_journal_know_each_others_events_in_the_very_next_answer(
    request, tmp_path, current_model, kind
):
    journal = tmp_path if kind == "file" else request.getfixturevalue("postgres")
    event = {"event_id": "a", "user": 777, "item": 5, "rating": 4, "time": BEGIN}

    def latest(client):
        return [event["item"] for event in client.get("/users/777").json()["latest"]]

    with serving(journal, current_model) as one, serving(journal, current_model) as other:
        for sender, answerer in ((one, other), (other, one)):
            assert sender.post("/events", json={"events": [event]}).json()["accepted"] == 1
            assert answerer.post("/events", json={"events": [event]}).json()["duplicates"] == 1
            assert latest(answerer) == ["5"]
            assert answerer.put("/events", json={"events": [event | {"item": 6}]}).json()["accepted"] == 1
            assert latest(sender) == ["6"]
            asked = {"user": 777, "n": ITEMS}
            assert items_of(one.post("/recommend", json=asked)) == items_of(other.post("/recommend", json=asked))
            assert sender.delete("/users/777/events").json()["deleted_from_journal"] == 1
            assert answerer.get("/users/777").status_code == sender.get("/users/777").status_code == 404


def test_dropped_events_are_gone_at_once_and_after_a_restart(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        client.post("/events", json={"events": [{"user": 3, "item": 5, "rating": 4}]})
        assert client.delete("/users/3/events").json()["deleted_from_journal"] == 1
        assert client.post("/recommend", json={"user": 3}).json()["fallback"] == "no_events"
    with serving(tmp_path, current_model) as client:
        assert client.get("/users/3").json()["latest"] == []


def test_a_user_with_an_id_that_no_database_stores_is_unknown_and_fails_no_commit(postgres, current_model):
    with serving(postgres, current_model) as client:
        assert client.delete("/users/%00/events").status_code == 404
        assert 'reclora_journal_faults_total{step="commit"} 0.0' in client.get("/metrics").text


def test_dropped_events_are_gone_whatever_the_clock_says(tmp_path, current_model):
    """Those of the current model's log are later than now: a clock is behind, or theirs was ahead."""
    later = replace(current_model.log.sequences, timestamp=current_model.log.sequences.timestamp + 10**9)
    ahead = with_recommender(
        replace(
            current_model,
            recommender=replace(current_model.recommender, log=replace(current_model.log, sequences=later)),
        )
    )
    with serving(tmp_path, ahead) as client:
        assert client.get("/users/3").json()["events"] > 0
        assert client.delete("/users/3/events").status_code == 200
        assert client.get("/users/3").json()["events"] == 0


def test_a_client_that_sends_again_brings_no_forgotten_user_back(tmp_path, current_model):
    events = [{"user": user, "item": 5, "rating": 4} for user in (3, 777)]
    with serving(tmp_path, current_model, forgotten=lambda: NOBODY.with_users([777])) as client:
        answer = client.post("/events", json={"events": events}).json()
        assert (answer["accepted"], answer["of_forgotten_users"]) == (1, 1)
        assert 'reclora_events_total{outcome="of a forgotten user"} 1.0' in client.get("/metrics").text
        assert client.get("/users/777").status_code == 404


def test_whoever_is_forgotten_is_at_once_in_no_process_and_comes_back_by_no_backup(tmp_path, current_model):
    """Before any of them reloads its model, which still has the user."""
    forgotten, event = [NOBODY], {"item": 5, "rating": 4, "time": BEGIN + 900}
    events = {"events": [{"user": user} | event for user in (3, 777, 4)]}
    with (
        serving(tmp_path, current_model, forgotten=lambda: forgotten[-1]) as client,
        serving(tmp_path, current_model, forgotten=lambda: forgotten[-1]) as other,
    ):
        assert client.post("/events", json=events).json()["accepted"] == 3
        with closing(sqlite3.connect(tmp_path / "backup")) as backup:
            client.service.journal._reader.driver.backup(backup)
        forgotten.append(NOBODY.with_users([3, 777]))
        assert other.post("/events", json=events).json()["of_forgotten_users"] == 2
        assert erase_events(str(tmp_path / FILE), [3, 777]) == 2
        for each in (client, other):
            assert [each.get(f"/users/{user}").status_code for user in (3, 777, 4)] == [404, 404, 200]
        near = client.get("/items/5/neighbours").json()
        assert other.post("/events", json=events).json()["of_forgotten_users"] == 2
    (tmp_path / "backup").replace(tmp_path / FILE)
    with serving(tmp_path, current_model, forgotten=lambda: forgotten[-1]) as client:
        assert [client.get(f"/users/{user}").status_code for user in (3, 777, 4)] == [404, 404, 200]
        assert client.get("/items/5/neighbours").json() == near
        client.service.journal.try_out().result()
        stored = JournalDataset(journal=str(tmp_path / FILE)).load()
        assert stored["user_id"].to_list() == ["4"]


def test_what_another_service_stores_while_one_starts_is_known_to_both(tmp_path, current_model, monkeypatch, caplog):
    event = {"events": [{"user": 3, "item": 5, "rating": 4, "time": BEGIN + 900}]}
    with serving(tmp_path, current_model) as other:

        class Starting(Thread):
            def start(self):
                assert other.post("/events", json=event).json()["accepted"] == 1
                super().start()

        monkeypatch.setattr("reclora_kedro.serving.journal.Thread", Starting)
        with serving(tmp_path, current_model) as client:
            client.service.journal.try_out().result()
            assert client.service.journal.fault is None
            users = [each.get("/users/3").json() for each in (client, other)]
    assert users[0] == users[1]
    assert "Answers do not read" not in caplog.text


def test_items_are_found_and_have_neighbours(client, current_model):
    found = client.get("/items", params={"q": "film 1", "limit": 3}).json()
    assert (found["found"], len(found["items"])) == (11, 3)
    near = client.get("/items/7/neighbours").json()
    weights = [entry["weight"] for entry in near["by_users"]]
    assert weights == sorted(weights, reverse=True)
    assert len(near["by_text"]) == 10
    every = client.get("/items/7/neighbours", params={"limit": 1000}).json()["by_text"]
    assert {entry["item"] for entry in every} == {str(item) for item in range(ITEMS)} - {"7"}
    assert client.get("/model").json()["versions"] == dict(current_model.versions)


def test_rules_of_a_request_order_its_list_as_in_python(client, current_model):
    last = items_of(client.post("/recommend", json={"user": 1, "n": ITEMS}))[-1]
    rules = [{"boost": {"genres": ["Drama"]}, "places": 3}, {"pin": int(last), "place": 2}]
    answer = client.post("/recommend", json={"user": 1, "n": 5, "rules": rules}).json()
    under = current_model.recommender.with_rules([Rule.model_validate(rule) for rule in rules])
    moments = under.moments(under.log.now(under.log.find_users([1])))
    lists = under.best_lists(moments, 20, 5)
    ids = current_model.log.items["item_id"].cast(str)
    assert [entry["item"] for entry in answer["items"]] == ids.gather(lists.items[0, :5]).to_list()
    assert [entry["rule"] for entry in answer["items"]] == under.told_rules(lists.rules[0, :5]).to_list()
    assert (answer["items"][1]["item"], answer["items"][1]["rule"]) == (last, f"pin {last}")
    for unfit in (
        {"boost": {"brand": ["x"]}},
        {"pin": "none"},
        {"allow": {"genres": ["Western"]}},
        {"boost": {}, "pin": 1},
    ):
        refused = client.post("/recommend", json={"user": 1, "rules": [unfit]})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:reclora:invalid-request"), unfit


def test_similar_items_are_those_of_python_and_store_nothing(client, current_model):
    answer = client.get("/items/7/similar", params={"limit": 4}).json()
    own = similar_items(current_model.recommender, np.array([7]), 4)
    assert [entry["item"] for entry in answer["similar"]] == own["similar_id"].cast(str).to_list()
    assert [entry["score"] for entry in answer["similar"]] == pytest.approx(own["score"].to_list())
    assert client.get("/items/7/similar", params={"limit": 4}).json() == answer
    assert client.get("/items/none/similar").json()["type"] == "urn:reclora:unknown-item"


def test_a_misspelt_member_of_a_request_is_told_where_members_are_listed(client):
    refused = client.post("/recommend", json={"usr": "1"}).json()
    expected = "the request has no such member; GET /openapi.json lists them"
    assert refused["errors"] == [{"where": "/usr", "found": "'1'", "expected": expected}]


def test_an_item_is_no_neighbour_of_itself_where_texts_weigh(tmp_path, current_model):
    choice = {"sources": SOURCES | {"item_knn": {"text_weight": 3.0}}}
    with serving(tmp_path, with_recommender(current_model, choice=choice)) as client:
        near = client.get("/items/3/neighbours").json()["by_users"]
    assert near
    assert "3" not in {entry["item"] for entry in near}


def test_items_with_near_vectors_are_found_without_a_copy_of_all_vectors(current_model):
    vectors = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    vectors[3] = 0
    log = SimpleNamespace(item_embeddings=vectors)
    now = SimpleNamespace(log=log, current_model=replace(current_model, recommender=SimpleNamespace(log=log)))
    assert {cosine for _, cosine in Snapshot.alike(now, 3, 9)} == {0}
    tracemalloc.start()
    alike = dict(Snapshot.alike(now, 7, len(vectors)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    cosines = unit_vectors(vectors) @ unit_vectors(vectors)[7]
    np.testing.assert_allclose([*alike.values()], cosines[[*alike]], atol=2e-6)
    assert peak < vectors.nbytes


def test_an_event_of_an_unknown_item_waits_until_the_item_is_known(tmp_path, current_model):
    with serving(tmp_path, current_model) as client:
        response = client.post("/events", json={"events": [{"user": 1, "item": "new film", "rating": 5}]})
        assert response.json()["unknown_items"] == ["new film"]
        assert client.get("/users/1").json()["events"] == 14
        client.post("/events", json={"events": [{"user": 900, "item": "new film", "rating": 5}]})
        assert client.delete("/users/900/events").json()["deleted_from_journal"] == 1
        assert client.delete("/users/900/events").status_code == 404
        content = client.service.journal.content()
        assert ([event.user_id for event in content.events], list(content.dropped)) == (["1"], ["900"])


def test_blanks_around_an_id_go_at_every_route(client):
    event = {"user": "\xa05 ", "item": " 7", "rating": 5, "event_id": "e"}
    assert client.post("/events", json={"events": [event]}).json()["unknown_items"] == []
    answers = [client.get("/users/5").json(), client.get("/users/%205%C2%A0").json()]
    assert answers[0] == answers[1]
    assert answers[0]["latest"][0]["item"] == "7"
    same = {key: client.post("/recommend", json={"user": key, "request_id": "r"}).json() for key in (5, 5.0, " 5")}
    assert same[5] == same[" 5"]
    assert same[5]["user"] == "5"
    assert client.get("/items", params={"q": " 7 "}).json()["items"][0]["item"] == "7"
    assert client.get("/items/%207/neighbours").json()["item"] == "7"
    assert client.delete("/users/%205/events").json()["deleted_from_journal"] == 1


def test_unknown_items_are_left_out_and_named(client):
    exclude, history = ["x", "3", "999"], [{"item": "y", "rating": 4}, {"item": 4, "rating": 4}]
    known = {"n": 20, "exclude": ["3"], "request_id": "r"}
    answer = client.post("/recommend", json=known | {"user": 1, "exclude": exclude}).json()
    assert answer.pop("unknown_items") == ["x", "999"]
    plain = client.post("/recommend", json=known | {"user": 1}).json()
    assert plain.pop("unknown_items") == []
    assert answer == plain
    assert client.post("/recommend", json={"history": history}).json()["unknown_items"] == ["y"]
    among = client.post("/recommend", json={"user": 1, "candidates": ["x", "5"], "include_seen": True}).json()
    assert (items_in(among), among["unknown_items"]) == (["5"], ["x"])
    scored = client.post("/score", json={"user": 1, "items": ["x", "5"]}).json()
    assert ([each["item"] for each in scored["scores"]], scored["unknown_items"]) == (["5"], ["x"])
    nothing = client.post("/score", json={"user": 1, "items": ["x"]}).json()
    assert (nothing["scores"], nothing["unknown_items"]) == ([], ["x"])


def test_an_empty_list_says_why(client, current_model):
    taken = [
        str(item) for item in current_model.log.sequences.item_index[: current_model.log.sequences.offsets[1]]
    ]  # of user 0
    for rules, reason in (
        ({"candidates": ["x"]}, "no_candidates"),
        ({"candidates": taken}, "took_all"),
        ({"candidates": ["1"], "exclude": ["1"]}, "nothing_allowed"),
        ({"filter": {"genres": ["Western"]}}, "nothing_allowed"),
    ):
        answer = client.post("/recommend", json={"user": 0} | rules).json()
        assert (answer["items"], answer["fallback"]) == ([], reason)


@pytest.mark.parametrize("user", ["a\nb", "a\n", "a/b", "a\r\n/events", "ü\u2028?#"])
def test_an_id_of_any_characters_is_shown_and_dropped_by_its_routes(tmp_path, user):
    log = small_log()
    log = replace(log, users=log.users.with_columns(pl.col("user_id").cast(pl.String)))
    with serving(tmp_path, small_model(log)) as client:
        event = {"user": user, "item": 3, "rating": 5}
        assert client.post("/events", json={"events": [event]}).json()["accepted"] == 1
        stored = user.strip()
        path = f"/users/{quote(stored, safe='')}"
        assert client.get(path).json()["user"] == stored
        assert client.delete(f"{path}/events").json()["deleted_from_journal"] == 1


FUTURE = int(time()) + 86_400
TIMES = ("1000000000", " 1000000000 ", "1000000000.5", 1000000000.5, 1000000000000, "1000000000000", True)
WRONG = [
    *(
        ("POST", "/events", {"events": [{"user": "1", "item": "1", "rating": 4, "time": when}]}, 422, "whole seconds")
        for when in TIMES
    ),
    ("POST", "/recommend", {"user": "1x", "candidates": ["1"], "n": 0}, 422, "/n is 0: "),
    ("POST", "/recommend", {"user": "1", "history": []}, 422, "either a user or a history"),
    ("POST", "/recommend", {"user": "01"}, 422, "ids of this log are whole numbers: write 1"),
    ("POST", "/recommend", {"user": "1", "exclude": ["+7"]}, 422, "/exclude/0 is '+7': ids of this log"),
    ("POST", "/recommend", {"history": [{"item": "1e1", "rating": 4}]}, 422, "/history/0/item is '1e1'"),
    ("POST", "/recommend", {"user": "1", "candidates": ["07"]}, 422, "/candidates/0 is '07'"),
    ("POST", "/recommend", {"user": True}, 422, "True is not an id: ids are whole numbers or text"),
    ("POST", "/recommend", {"user": 1.5}, 422, "1.5 is not an id"),
    ("POST", "/recommend", {"user": " \xa0"}, 422, "at least one character that is not blank"),
    ("POST", "/recommend", {"requests": [{"user": "1"}, {"user": "+1"}]}, 422, "/requests/1/user is '+1'"),
    ("POST", "/score", {"user": "1", "items": ["07"]}, 422, "/items/0 is '07'"),
    ("POST", "/events", {"events": [{"user": "1", "item": "07", "rating": 4}]}, 422, "write 7"),
    ("POST", "/recommend", {"user": "1", "filter": {"genre": ["Drama"]}}, 422, "Did you mean genres"),
    ("POST", "/recommend", {"user": "1", "filter": {"genres": {"max": 3}}}, 422, "numbers of the items are none"),
    ("POST", "/recommend", {"user": "1", "model": "llm"}, 422, "service.variant"),
    ("POST", "/recommend", {"user": "1", "n": 5000}, 422, "at most 1,000"),
    ("POST", "/score", {"user": "111", "items": ["1"]}, 404, "Did you mean 11"),
    ("GET", "/users/111", None, 404, "Did you mean 11"),
    ("GET", "/items/../../etc/passwd/neighbours", None, 404, "known"),
    ("POST", "/events", {"events": [{"user": "1", "item": "1"}]}, 422, "/events/0/rating is "),
    ("POST", "/events", {"events": [{"user": "1", "item": "1", "rating": 9}]}, 422, "/events/0/rating is "),
    ("POST", "/events", {"events": [{"user": "1", "item": "1", "rating": True}]}, 422, "valid number"),
    ("POST", "/events", {"events": [{"user": "--5", "item": "1", "rating": 4}]}, 422, "a whole number"),
    ("POST", "/events", {"events": [{"user": "007", "item": "1", "rating": 4}]}, 422, "a whole number"),
    ("POST", "/events", {"events": [{"user": "1", "item": "\ud800", "rating": 4}]}, 422, "surrogates not allowed"),
    ("POST", "/events", {"events": [{"user": "1\0", "item": "5", "rating": 4}]}, 422, "must not contain NUL"),
    ("POST", "/recommend", {"user": "1", "filter": {"genres": ["\ud800"]}}, 422, "surrogates not allowed"),
    ("POST", "/recommend", {"user": "1", "\ud800": 1}, 422, "unicode string"),
    ("POST", "/recommend", {"requests": [{"user": "1", "n": 0}]}, 422, "/requests/0/n is 0: "),
    ("POST", "/events", {"events": [{"user": "1", "item": "1", "rating": 4, "time": FUTURE}]}, 422, "a time from"),
    (
        "POST",
        "/events",
        {"events": [{"user": "1", "item": "1", "rating": 4, "time": "2020-01-01T00:00:00"}]},
        422,
        "time",
    ),
    ("POST", "/events", {"events": [{"user": "1", "item": "1", "rating": 4}] * 1001}, 422, "at most 1,000"),
    ("POST", "/events", b'{"events": [{"user": "\xff"}]}', 400, "Byte 22"),
    ("POST", "/events", b'{"events": [', 422, "The body is not valid JSON from its character 12"),
    ("POST", "/score", {"user": "1", "items": ["1"] * 1_000_000}, 413, "1,048,576 bytes"),
    ("GET", "/nowhere", None, 404, "Route"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_request_is_a_problem_and_stores_nothing(client, method, path, body, status, words):
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.request(method, path, content=content, headers={"content-type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in problem["detail"]
    assert not [each for each in ("raw_", "ingestion.", "columns[", "catalog") if each in problem["detail"]]
    assert client.service.journal.content().events == []


def test_a_full_queue_answers_at_once_that_it_is_full(tmp_path, current_model):
    with serving(tmp_path, current_model, max_waiting=1) as client, standing_still(client) as (pool, go_on):
        waits = pool.submit(client.get, "/users/1")
        while not client.service._lens.waiting:
            sleep(0.001)
        refused, ready = client.get("/users/2"), client.get("/health/ready")
        go_on.set()
        assert (ready.status_code, ready.json()["type"]) == (503, "urn:reclora:not-ready")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert "service.max_waiting" in refused.json()["detail"]
        assert waits.result(5).status_code == 200


def test_a_request_is_refused_when_its_time_is_over_whatever_is_computed_meanwhile(tmp_path, current_model):
    with serving(tmp_path, current_model, timeout_seconds=0.1) as client:
        begun, go_on = Barrier(2), Signal()
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(client.portal.call, client.service.look, lambda now: (begun.wait(5), go_on.wait(5)))
            begun.wait(5)
            late = client.get("/users/1")
            assert (late.status_code, late.json()["type"]) == (503, "urn:reclora:timed-out")
            assert client.service._lens.waiting == 0
            assert isinstance(held.exception(5), RequestExpiredError)
            go_on.set()
        assert client.get("/users/1").status_code == 200


def test_many_users_are_one_request_which_is_refused_by_what_it_takes(tmp_path, current_model):
    with serving(tmp_path, current_model, max_waiting=1, max_pairs=6000) as client:
        many = {"requests": [{"user": user % USERS, "n": 5, "explain": True} for user in range(32)]}
        assert len(client.post("/recommend", json=many).json()["answers"]) == 32
        for request in many["requests"]:
            request["n"] = 1000
        refused = client.post("/recommend", json=many)
        assert (refused.status_code, refused.json()["expected"]) == (422, 6000)
        assert "takes 288,000 pairs of user and item" in refused.json()["detail"]
        assert "service.max_pairs" in refused.json()["detail"]


def test_an_event_id_of_another_event_is_a_conflict_and_another_users_event_is_left_alone(client):
    event = {"user": 1, "item": "3", "rating": 5, "event_id": "a"}
    assert client.post("/events", json={"events": [event]}).json()["accepted"] == 1
    assert client.post("/events", json={"events": [event]}).json()["duplicates"] == 1
    other = {"user": 2, "item": "4", "rating": 1}
    refused = client.post("/events", json={"events": [other, event | {"rating": 1}]})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:reclora:event-conflict")
    assert "by PUT /events. Nothing was stored." in refused.json()["detail"]
    stolen = client.put("/events", json={"events": [event | {"user": 2}]})
    assert (stolen.status_code, client.get("/users/2").json()["events"]) == (409, 14)
    assert client.put("/events", json={"events": [event | {"rating": 1}]}).json()["accepted"] == 1
    assert client.get("/users/1").json()["latest"][0]["rating"] == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://testserver"}, 200),
        ({"origin": "http://shop.example"}, 200),
        ({"origin": "http://testserver", "sec-fetch-site": "cross-site"}, 403),
        ({}, 200),
    ],
)
def test_pages_of_other_origins_write_nothing_also_where_browsers_send_their_origin_alone(
    tmp_path, current_model, headers, status
):
    with serving(tmp_path, current_model, allowed_origins=["http://shop.example"]) as client:
        event = {"events": [{"user": 1, "item": "3", "rating": 5}]}
        assert client.post("/events", json=event, headers=headers).status_code == status
        assert client.get("/users/1", headers=headers).json()["events"] == 14 + (status == 200)


def test_the_description_names_answers_problems_and_the_token_and_opens_without_it(tmp_path, current_model):
    with serving(tmp_path, current_model, token="s3cret") as client:
        assert client.get("/docs").status_code == 200
        schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["security"] == ([] if path.startswith("/health") else [{"token": []}])
            [content] = operation["responses"]["200"]["content"].values()
            assert path == "/metrics" or content["schema"]
            assert (
                "detail"
                in operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["properties"]
            )
            assert operation["responses"].keys() == {"200", "default"}


def test_a_token_is_asked_for_and_no_host_but_the_named_ones(tmp_path, current_model):
    shop = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
    settings = {"requests_per_second": 1000, "allowed_origins": [shop["origin"]]}
    with serving(tmp_path, current_model, token="s3cret", **settings) as client:
        assert client.options("/events", headers=shop).status_code == 200
        assert client.options("/events", headers=shop | {"origin": "https://evil.example"}).status_code == 400
        assert client.get("/model").status_code == client.get("/metrics").status_code == 401
        assert client.get("/model", headers={"authorization": "Bearer s3cre"}).status_code == 401
        assert client.get("/model", headers={"authorization": "Bearer s3cret"}).status_code == 200
        assert client.get("/health/ready").status_code == client.get("/").status_code == 200
        assert client.get("/health/live", headers={"host": "evil.example"}).status_code == 421


def test_tokens_for_writing_and_reading_are_for_no_more(tmp_path, current_model):
    event = {"events": [{"user": 1, "item": "3", "rating": 5}]}
    kinds = {
        "reading": [("GET", "/users/1", None), ("POST", "/recommend", {"user": 1}), ("GET", "/metrics", None)],
        "writing": [("POST", "/events", event), ("PUT", "/events", event), ("DELETE", "/users/5/events", None)],
        "administration": [("POST", "/model/reload", None), ("POST", "/model/rollback", None)],
    }
    roll_back = {"roll_back": lambda: "first", "newest": lambda: "first"}
    with serving(tmp_path, current_model, Tokens("a" * 9, "b" * 9, "c" * 9), **roll_back) as client:
        for token, for_it in (("c", 1), ("b", 2), ("a", 3)):
            headers = {"authorization": f"Bearer {token * 9}"}
            for place, (kind, requests) in enumerate(kinds.items()):
                for method, path, body in requests:
                    answer = client.request(method, path, json=body, headers=headers)
                    assert answer.status_code == (200 if place < for_it else 403), (token, path)
                    assert place < for_it or f"the token for {kind}" in answer.json()["detail"]


def test_a_client_has_a_rate(tmp_path, current_model):
    with serving(tmp_path, current_model, requests_per_second=2) as client:
        statuses = [client.get("/health/live").status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]


def test_another_model_takes_over_without_a_dropped_request(tmp_path, current_model):
    present, name = [current_model], ["first"]
    with serving(tmp_path, lambda: present[0], newest=lambda: name[0], reload_seconds=0.02) as client:
        client.post("/events", json={"events": [{"user": 1, "item": "3", "rating": 5}]})
        with ThreadPoolExecutor(2) as pool:
            done = Signal()

            def ask():
                answers = []
                while not done.is_set():
                    answers.append(client.post("/recommend", json={"user": 1, "n": 3}))
                return answers

            asking = [pool.submit(ask) for _ in range(2)]
            present[0], name[0] = replace(current_model, versions={"lens": "2026-02-02"}), "second"
            while client.get("/model").json()["version"] != "2026-02-02":
                sleep(0.01)
            present[0] = replace(current_model, versions={"lens": "2026-03-03"})
            assert client.post("/model/reload").json() == {"version": "2026-03-03", "changed": True}
            done.set()
        answers = [answer for each in asking for answer in each.result()]
        assert {answer.status_code for answer in answers} == {200}
        assert client.get("/users/1").json()["latest"][0]["item"] == "3"


@pytest.mark.parametrize(
    ("path", "body", "grows", "unknown"),
    [
        ("/recommend", {"user": 1, "filter": {"genres": ["Drama"]}}, True, []),
        ("/recommend", {"user": 1, "candidates": [str(ITEMS), "3"]}, False, [str(ITEMS)]),
        ("/score", {"user": 1, "items": ["3", str(ITEMS)]}, False, [str(ITEMS)]),
    ],
)
def test_what_waits_while_another_model_takes_over_is_answered_beside_that(
    tmp_path, current_model, path, body, grows, unknown
):
    log = current_model.log
    new = log.items.head(1).with_columns(item_id=pl.lit(ITEMS, pl.Int64))
    log = replace(log, items=pl.concat([log.items, new])).with_embeddings(log.item_embeddings[[*range(ITEMS), 0]])
    lens = grow_lens(current_model.lens, log)
    present = [current_model, replace(current_model, lens=lens, recommender=recommender_of(log, lens))]
    if not grows:
        present.reverse()
    with serving(tmp_path, lambda: present[0]) as client, standing_still(client) as (pool, go_on):
        waiting = [pool.submit(client.post, path, json=body), pool.submit(client.get, "/users/2")]
        while client.service._lens.waiting < 2:
            sleep(0.001)
        present.reverse()
        assert client.post("/model/reload").status_code == 200
        go_on.set()
        answered, of_user = (answer.result(5) for answer in waiting)
        assert (answered.json()["unknown_items"], of_user.status_code) == (unknown, 200)


def test_events_are_taken_while_another_model_gets_ready(tmp_path, current_model, monkeypatch):
    with serving(tmp_path, current_model) as client, ThreadPoolExecutor(1) as pool:
        take, event = Snapshot.take, {"user": 1, "item": "3", "rating": 5}

        def take_meanwhile(*arguments):
            snapshot = take(*arguments)
            assert pool.submit(client.post, "/events", json={"events": [event]}).result(2).status_code == 200
            return snapshot

        monkeypatch.setattr(Snapshot, "take", staticmethod(take_meanwhile))
        assert client.post("/model/reload").status_code == 200
        assert client.get("/users/1").json()["latest"][0]["item"] == "3"


def test_a_model_that_does_not_answer_is_refused_and_the_old_one_goes_on(tmp_path, current_model):
    present = [current_model]
    with serving(tmp_path, lambda: present[0]) as client:
        log = replace(current_model.log, items=current_model.log.items.head(3))
        present[0] = replace(current_model, recommender=replace(current_model.recommender, log=log))
        refused = client.post("/model/reload")
        assert (refused.status_code, refused.json()["title"]) == (503, "The current model was not reloaded")
        assert client.post("/recommend", json={"user": 1}).status_code == 200


def test_models_beside_one_choice_and_choices_beside_one_model_have_versions_of_their_own(tmp_path, current_model):
    made = [{"lens": "2026-01-01", "candidate_choice": choice} for choice in ("2026-01-01", "2026-03-03")]
    made += [made[1] | {"log": "2026-02-02"}, made[1]]  # an update after the new choice was rolled back
    present = [replace(current_model, versions=versions) for versions in made]
    with serving(tmp_path, lambda: present[0]) as client:
        told = [client.get("/health/ready").json()["version"]]
        while present.pop(0) and present:
            reloaded = client.post("/model/reload").json()
            assert reloaded["changed"]
            assert client.post("/recommend", json={"user": 1}).json()["version"] == reloaded["version"]
            told.append(reloaded["version"])
    assert told == ["2026-01-01", "2026-01-01+2026-03-03", "2026-02-02+2026-03-03", "2026-01-01+2026-03-03"]


def test_a_rollback_has_the_model_before_answer_at_once_and_loads_it_once(tmp_path, current_model):
    first, second = (
        replace(current_model, versions={"lens": run}, chosen_by=run) for run in ("2026-01-01", "2026-02-02")
    )
    present, loads = [second], []

    def load():
        loads.append(present[0].chosen_by)
        return present[0]

    def roll_back():
        if len(loads) > 1:
            raise ValueError("The current model stays, because no earlier model has other versions.")
        present[0] = replace(first, chosen_by="2026-03-03")
        sleep(0.1)  # the alias has moved
        return "2026-03-03"

    settings = {"newest": lambda: present[0].chosen_by, "roll_back": roll_back, "reload_seconds": 0.01}
    with serving(tmp_path, load, token="s3cret", **settings) as client:
        assert client.post("/model/rollback").status_code == 401
        client.headers["authorization"] = "Bearer s3cret"
        other = {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8888"}
        assert client.post("/model/rollback", headers=other).json()["type"] == "urn:reclora:other-origin"
        assert "Roll back" not in client.get("/page/champion").text  # there is no history yet
        assert client.post("/model/rollback").json() == {"version": "2026-01-01", "changed": True}
        sleep(0.1)
        assert loads == ["2026-02-02", "2026-03-03"]
        refused = client.post("/model/rollback")
        assert (refused.status_code, refused.json()["title"]) == (409, "The current model stays")
        assert "no earlier model has" in refused.json()["detail"]
        assert "no earlier model has" in client.post("/page/rollback").text
        assert client.post("/recommend", json={"user": 1}).json()["version"] == "2026-01-01"
        assert "/model/rollback" in client.get("/openapi.json").json()["paths"]


def test_the_page_escapes_what_it_shows_and_adds_events(tmp_path, current_model):
    title = "<script>alert(1)</script> {{ 7 * 7 }} <|im_end|>"
    log = replace(current_model.log, items=current_model.log.items.with_columns(title=pl.lit(title)))
    with serving(tmp_path, replace(current_model, recommender=replace(current_model.recommender, log=log))) as client:
        assert client.post("/recommend", json={"user": 1}).json()["items"][0]["title"] == title
        part = client.get("/page/user", params={"user": "1"}).text
        assert "<script>alert" not in part
        assert "&lt;script&gt;alert(1)&lt;/script&gt; {{ 7 * 7 }}" in part
        form = {"user": "1", "item": "3", "rating": "5", "model": "lens"}
        other = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        assert client.post("/page/events", data=form, headers=other).status_code == 403
        after = client.post("/page/events", data=form, headers={"sec-fetch-site": "same-origin"}).text
        assert "15 events" in after
        assert "could not convert" in client.post("/page/events", data=form | {"rating": "many"}).text
        whole = client.get("/")
        assert "default-src 'self'" in whole.headers["content-security-policy"]
        assert [client.get(f"/page/{file}").status_code for file in ("page.js", "htmx.min.js", "page.py")] == [
            200,
            200,
            404,
        ]
        assert "There has been no update yet" in client.get("/page/champion").text


def test_the_page_opens_with_an_example_and_has_a_place_for_unknown_users(client):
    assert 'hx-get="/page/start" hx-trigger="load' in client.get("/").text
    start = client.get("/page/start").text
    assert start.count("<option") == USERS
    assert "User 0" in start
    unknown = client.get("/page/user", params={"user": "777"})
    assert unknown.status_code == 200
    assert "the user is not known: the most popular items" in unknown.text


@pytest.mark.parametrize(
    ("order", "said"), [("lens", "By item_knn, reordered by the lens"), ("candidates", "By item_knn, version")]
)
def test_the_page_says_what_orders_the_items(tmp_path, current_model, order, said):
    with serving(tmp_path, with_recommender(current_model, "item_knn", order)) as client:
        assert said in client.get("/page/user", params={"user": "1"}).text


def test_the_page_says_why_in_words_of_the_log_and_offers_no_event_for_a_user_that_cannot_be(tmp_path, current_model):
    with serving(tmp_path, of_kind(current_model, "fusion")) as client:
        pages = [client.get("/page/user", params={"user": user}).text for user in ("1", "77", "abc")]
        because = client.post("/recommend", json={"user": "1", "n": 1, "explain": True}).json()["items"][0]["because"]
    rank = because["ranks"]["popularity"]
    known, possible, impossible = pages
    for words in (f"No. {rank} by popularity (liked by the most users)", "events are likes", "logarithms of"):
        assert words in known
    assert "leniency" not in known
    assert "add an event to create the user" in possible
    assert "Users of this log are whole numbers" in impossible
    assert ["/page/events" in text for text in pages] == [True, True, False]


def test_the_page_takes_titles_for_items_and_stores_nothing_for_others(client):
    headers, form = {"sec-fetch-site": "same-origin"}, {"user": "1", "rating": "5", "model": "lens"}
    assert "Film 7 (1990)" in client.get("/items", params={"q": "7"}).text
    added = client.post("/page/events", data=form | {"item": "film 7 (1990)"}, headers=headers).text
    assert "The event of item 7 counts from now on" in added
    refused = client.post("/page/events", data=form | {"item": "Film 2"}, headers=headers).text
    assert "Nothing was stored: Film 2 (1990) is 2; Film 20 (1990) is 20" in refused
    assert len(client.service.journal.content().events) == 1
    assert "://" not in client.get("/docs").text.replace("http://www.w3.org", "")


def test_requests_have_ids_and_lines_in_the_log_without_ids_of_users(client, caplog):
    with caplog.at_level("INFO", "reclora_kedro.serving.access"):
        given = client.get("/users/7", headers={"x-request-id": "mine-1"}).headers["x-request-id"]
        made = client.get("/users/7", headers={"x-request-id": "not mine"}).headers["x-request-id"]
    lines = [record.getMessage() for record in caplog.records if record.name == "reclora_kedro.serving.access"]
    assert (given, len(made)) == ("mine-1", 32)
    assert [line.split()[1:4] + line.split()[-1:] for line in lines] == [
        ["GET", "/users/{user_id:id}", "200", each] for each in (given, made)
    ]


def test_a_long_history_costs_what_it_takes(tmp_path, current_model):
    history = [{"item": "3", "rating": 4}] * 200
    with serving(tmp_path, current_model, max_pairs=350) as client:
        bodies = {"requests": [{"history": history, "n": 1, "candidates": ["3"]}] * 2}
        assert client.post("/recommend", json=bodies).status_code == 422
        bodies["requests"][0]["history"] = history[:100]
        assert client.post("/recommend", json=bodies).status_code == 200


def test_what_happens_is_counted(client):
    client.post("/events", json={"events": [{"user": 1, "item": "3", "rating": 5, "event_id": "a"}] * 2})
    client.post("/recommend", json={"user": 1, "n": 3})
    text = client.get("/metrics").text
    for line in ('reclora_events_total{outcome="duplicate"} 1.0', 'route="/recommend",status="200"} 1.0'):
        assert line in text


def test_the_same_verbs_are_tools_of_the_model_context_protocol(client):
    pytest.importorskip("mcp")
    visitor = {"history": [{"item": "3", "rating": 5, "time": 1_700_000_000}], "n": 3, "exclude": ["9"]}
    candidates = {"user": "1", "candidates": ["3", "5", "7", "9"], "exclude": ["5"], "include_seen": True}
    calls = [
        ("add_event", {"user": "1", "item": "3", "rating": 5}),
        ("user", {"user": "1"}),
        ("user", {"user": "111"}),
        ("put_item", {"item": "7", "columns": {"withdrawn": True}}),
        ("recommend", visitor),
        ("recommend", candidates),
        ("recommend", {"user": "1"} | visitor),
    ]
    headers = {"accept": "application/json, text/event-stream"}
    answers = []
    for name, arguments in calls:
        params = {"name": name, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answers.append(client.post("/mcp", json=body, headers=headers).json()["result"])
    texts = [answer["content"][0]["text"] for answer in answers]
    assert json.loads(texts[1])["latest"][0]["item"] == "3"
    assert answers[2]["isError"]
    assert "Did you mean 11" in texts[2]
    for text, asked in zip(texts[4:6], (visitor, candidates), strict=True):
        assert json.loads(text)["items"] == client.post("/recommend", json=asked | {"explain": True}).json()["items"]
    assert {each["item"] for each in json.loads(texts[5])["items"]} == {"3", "9"}  # 7 is withdrawn
    assert "give either a user or a history" in texts[6]


def test_sighup_has_the_model_loaded_again():
    reloads, looks = [], []
    service = SimpleNamespace(
        config=SimpleNamespace(reload_seconds=None),
        current_model=SimpleNamespace(chosen_by=None),
        reload=lambda chosen_by: reloads.append(get_ident() != main_thread().ident),
    )

    def newest():
        looks.append(len(looks))
        if len(looks) == 1:
            raise OSError("the storage cannot be reached")

    async def signalled():
        task = asyncio.create_task(_reload_when_told(service, newest))
        for told in range(2):
            await asyncio.sleep(0.05)
            assert len(looks) == told  # and not again and again
            os.kill(os.getpid(), signal.SIGHUP)
        while not reloads:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(signalled())
    assert reloads == [True]


def test_a_model_that_cannot_be_loaded_yet_is_tried_again_after_growing_pauses():
    times, seconds = [], 0.02

    def reload(chosen_by):
        times.append(monotonic())
        if len(times) < 5:
            raise ReloadRefusedError("900 MiB of memory are free, but two models are in memory for a moment")
        service.current_model.chosen_by = chosen_by

    current_model = SimpleNamespace(chosen_by="first")
    service = SimpleNamespace(
        config=SimpleNamespace(reload_seconds=seconds), current_model=current_model, reload=reload
    )

    async def watched():
        task = asyncio.create_task(_reload_when_told(service, lambda: "second"))
        while current_model.chosen_by == "first":
            await asyncio.sleep(0.01)
        await asyncio.sleep(5 * seconds)
        task.cancel()

    asyncio.run(asyncio.wait_for(watched(), 30))
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 5
    assert all(pause >= seconds * 2**place for place, pause in enumerate(pauses))


def test_hosts_in_any_case_tokens_of_any_characters_and_head_are_answered(tmp_path, current_model):
    with serving(tmp_path, current_model, token="Schlüssel", allowed_hosts=["LocalHost"]) as client:
        headers = {"host": "LOCALHOST:8321", "authorization": "Bearer Schlüssel".encode()}
        assert client.get("/model", headers=headers).status_code == 200
        assert (
            client.head("/model", headers=headers).status_code == client.head("/users/3", headers=headers).status_code
        )
        assert client.get("/model", headers=headers | {"authorization": "Bearer Schlussel"}).status_code == 401
