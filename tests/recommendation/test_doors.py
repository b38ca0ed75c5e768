"""A moment has one list, whoever makes it: the node, ranking, Python, or the service, also after events."""

from dataclasses import fields, replace
from functools import cache

import lightgbm
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from live_service import LINEAR, block, ingestion, recommender_of
from random_logs import ITEMS, USERS, item_embeddings, logs
from reclora_kedro.api import Recommender
from reclora_kedro.candidates.moments import NO_ITEM, NOTHING
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommendation import features, second_stage
from reclora_kedro.recommendation.delivery import lists_for_users
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.serving.journal import Changes, Content
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.models import Request, ServedModel, Snapshot, answer_by_lens

SOURCES = {
    "popularity": {"days": 2 / 86_400},
    "item_knn": {"text_weight": 0.5},
    "linear": LINEAR | {"directed": True},
    "own_items": {},
}
KINDS = [*SOURCES, "fusion", "ranker"]
IDS = [*USERS["user_id"], "eve", "unknown"]
ITEM = st.integers(0, ITEMS.height - 1)
ITEM_SETS = st.lists(ITEM, max_size=3, unique=True).map(lambda items: np.array(items, dtype=np.int64))
EVENT = st.builds(
    lambda user, item, second, rating: (user, str(ITEMS["item_id"][item]), rating, second),
    st.sampled_from(IDS[:-1]),
    ITEM,
    st.integers(1, 9),
    st.sampled_from([2.0, 5.0]),
)
REQUEST = st.builds(
    lambda user, history, **rules: Request(True, user, () if user else history, **rules),
    st.sampled_from(["ann", "ann", "bob", *IDS, None]),  # the same users several times, and visitors
    st.lists(EVENT, max_size=3).map(lambda rows: as_events(rows)),
    n=st.sampled_from([2, 3, 3, 3, 6]),  # lists of up to `shortlist` are made together
    items=st.none() | st.none() | ITEM_SETS,
    excluded=st.just(NOTHING) | ITEM_SETS,
    allowed=st.none() | st.lists(st.booleans(), min_size=5, max_size=5).map(np.array),
    include_seen=st.booleans(),
)
WEIGHTS = st.none() | st.dictionaries(
    st.sampled_from([f"{source}_rank" for source in SOURCES]), st.sampled_from([0.5, 1.0]), min_size=1
)


def as_events(rows):
    return tuple(Event(str(place), *row) for place, row in enumerate(rows))


@cache
def lens():
    """An untrained lens that tells users and items apart."""
    sizes = LensSizes(
        users=USERS.height,
        user_fields={},
        user_width=0,
        items=ITEMS.height,
        item_fields={},
        item_width=0,
        item_text_widths=(2,),
        rating_levels=4,
        rating_range=(0.5, 5),
        trained_until=9,
    )
    small = {"embedding_dim": 4, "hidden_dim": 8, "recent_length": 4, "long_history": WindowConfig(kind="recent", k=3)}
    small |= {"item_text": True}
    torch.manual_seed(0)
    untrained = build_lens(LensConfig.model_validate(block("lens", **small, device="cpu")), sizes)
    for entity in (untrained.user, untrained.item):
        entity.id_codes.copy_(torch.arange(1, len(entity.id_codes) + 1))
        torch.nn.init.normal_(entity.ids.weight)
    return untrained.freeze()


@cache
def trees():
    """Trees that split by the features of candidates, of whichever log."""
    names = [f"{source}{kind}" for kind in (features.RANK, features.SCORE, features.GAP) for source in SOURCES]
    names += ["events", "recent_events", "item_age", "history_length", "cosine_last"]
    random = np.random.default_rng(0)
    values = random.normal(size=(400, len(names)))
    data = lightgbm.Dataset(values, random.random(400) < 0.3, group=[10] * 40, feature_name=names)
    return lightgbm.train(second_stage.SETTINGS | {"min_data_in_leaf": 5}, data, 8).model_to_string()


def model_of_choice(log, kind, order, weights, **rules):
    stage = {"weights": weights, "trees": trees() if kind == "ranker" else None}
    choice = {"sources": SOURCES, "stage": stage}
    recommender = recommender_of(log, lens(), kind, order, choice=choice, top_n=2, shortlist=3, **rules)
    return ServedModel({}, {}, lens(), None, recommender, None, None, ingestion(label_threshold=3.5))


def stored(log):
    """The log of a service as one that a run would store."""
    return replace(log, sequences=log.sequences.settled(log.users.height))


def read_anew(current_model, log):
    """The current model's recommender on a later log of more users."""
    reader = LensReader(grow_lens(current_model.lens, log), log) if current_model.choice.order == "lens" else None
    return replace(current_model.recommender, lens=reader).with_log(log)


def best(recommender, users, requests, n):
    """The lists of requests, each a row of the moments."""
    moments = recommender.moments(
        recommender.log.now(pl.DataFrame({"user_index": users}, {"user_index": pl.Int32})),
        repeat=np.array([request.include_seen or recommender.config.repeat for request in requests]),
        excluded=[request.excluded for request in requests],
        allowed=[None if request.allowed is None else np.flatnonzero(request.allowed) for request in requests],
    )
    if all(request.items is not None for request in requests):
        may = [np.ones(ITEMS.height, bool) if request.allowed is None else request.allowed for request in requests]
        given = [each.items[own[each.items]] for each, own in zip(requests, may, strict=True)]
        return recommender.best_lists(replace(moments, allowed=given), max([1, *map(len, given)]))
    return recommender.best_lists(moments, n)


def require_equal(items, scores, expected_items, expected_scores):
    assert items == expected_items
    np.testing.assert_allclose(
        np.full(len(items), np.nan) if scores is None else scores, expected_scores, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@given(
    log=logs(),
    vectors=item_embeddings(),
    has_clock=st.booleans(),
    weights=WEIGHTS,
    rules=st.fixed_dictionaries(
        {
            "order": st.sampled_from(["candidates", "lens"]),
            "repeat": st.booleans(),
            "exclude_items": st.sampled_from([[], [8]]),
            "diversity": st.sampled_from([0, 0, 0.5]),
        }
    ),
    batches=st.lists(st.lists(EVENT, min_size=1, max_size=4), max_size=2),
    requests=st.lists(REQUEST, min_size=3, max_size=6),
)
def test_a_moment_has_one_list(kind, log, vectors, has_clock, weights, rules, batches, requests):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "BEST_PER_SOURCE", 2)
        current_model = model_of_choice(
            replace(log.with_embeddings(vectors), shared_clock=has_clock), kind, weights=weights, **rules
        )
        live = LiveLog(current_model.log, current_model.ingestion, Content([], {}))
        now = Snapshot.take(current_model, live)
        for batch in batches:
            answer_by_lens(requests, now)
            live.apply(Changes([*as_events(batch)]))
            now = now.brought_up_to_date()
        anew = read_anew(current_model, stored(now.log))
        _service_and_recommender_agree(now, anew, requests)
        _node_ranking_and_recommender_agree(now, anew)


def _service_and_recommender_agree(now, anew, requests):
    for request, answer in zip(requests, answer_by_lens(requests, now), strict=True):
        recommender, user = anew, now.nobody if answer.user is None else answer.user
        if answer.now is not now:  # of a visitor, whose events count for nobody else
            recommender = anew.with_log(stored(answer.now.log), NOTHING)
        lists = best(recommender, [user], [request], request.n)
        kept = np.flatnonzero(lists.items[0] != NO_ITEM)[: request.n]
        require_equal(answer.items.tolist(), answer.scores, lists.items[0, kept].tolist(), lists.scores[0, kept])


def vars_of(recommender):
    return {field.name: getattr(recommender, field.name) for field in fields(recommender)}


def _node_ranking_and_recommender_agree(now, recommender):
    log, n = recommender.log, recommender.config.shortlist
    users = [now.current.users.get(user, now.nobody) for user in IDS]
    plain = best(recommender, users, [Request(True, user) for user in IDS], n)
    delivered, _ = lists_for_users(recommender, IDS, n)
    recommended = Recommender(**vars_of(recommender)).recommend(IDS, n)
    likes = log.now(pl.DataFrame({"user_index": users, "item_index": 0})).with_row_index("row")
    list_maker = recommender.list_maker(recommender.choice.kind, recommender.choice.order)
    ranked = rank_likes({"method": list_maker}, recommender.moments(likes), likes, n)["top_items"]
    for row, user in enumerate(IDS):
        items, scores = plain.items[row], plain.scores[row]
        own, kept = delivered.filter(user_id=user), items != NO_ITEM
        require_equal(own["item_index"].to_list(), own["score"].fill_null(np.nan), items[kept].tolist(), scores[kept])
        assert recommended.filter(user_id=user)["item_id"].to_list() == own["item_id"].to_list()
        assert ranked[row].to_list() == items[kept].tolist()


@settings(max_examples=5)
@given(log=logs(), vectors=item_embeddings(), kind=st.sampled_from(["item_knn", "linear", "fusion"]))
def test_the_lens_reorders_the_shortlist_and_nothing_behind_it(log, vectors, kind):
    log = log.with_embeddings(vectors)
    first, reranked = (model_of_choice(log, kind, order, None).recommender for order in ("candidates", "lens"))
    asked = first.moments(log.now(pl.DataFrame({"user_index": range(USERS.height)}, {"user_index": pl.Int32})))
    plain, by_lens = (recommender.best_lists(asked, 6).items for recommender in (first, reranked))
    assert np.array_equal(np.sort(plain[:, :3]), np.sort(by_lens[:, :3]))
    assert np.array_equal(plain[:, 3:], by_lens[:, 3:])
