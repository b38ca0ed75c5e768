"""Ranks of likes in the lists of several methods."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from named import PARAMETERS
from random_logs import interaction_tables, log_of
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.history.taken_items import Rules, draw_positives
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommendation import item_ranks
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RankingConfig, RecommendationConfig
from reclora_kedro.recommendation.item_ranks import moments_of, rank_likes, rank_test_likes, sampled_items
from reclora_kedro.recommendation.recommender import FittedRecommender
from scored import Scored

RULES = RecommendationConfig.model_validate(PARAMETERS["recommendation"])
CONFIG = RankingConfig.model_validate(PARAMETERS["ranking"] | {"rows": None, "variant": None, "among_first": []})
METHODS = ["popularity", "item_knn", "fusion"]


def positives(log, rows=None, **rules):
    return draw_positives(log, "test", rows, 0, Rules(**rules))


def split(log):
    """The log, of whose samples the earlier half trains."""
    test = pl.col("row") >= log.samples.height // 2
    return replace(
        log, samples=log.samples.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))
    )


@pytest.fixture
def log(log):
    """Each event has a second of its own."""
    return split(log)


def split_logs():
    """Logs in which users take an item again, and several in a second."""
    return interaction_tables().map(log_of).map(split).filter(lambda log: positives(log).height > 0)


def past_of(log, row):
    return set(log.sequences.item_index[log.sequences.offsets[row["user_index"]] : row["history_end"]].tolist())


def hashed(moments):
    """Scores that many items share."""
    columns = moments.frame.select(pl.col("user_index") * 3 + pl.col("history_end") * 5).to_numpy()
    return (columns + 7 * np.arange(moments.items)) % 4


@given(split_logs(), st.integers(1, 6), st.sampled_from([None, 1, 3]))
def test_a_like_has_its_rank_among_what_its_user_may_get_equals_in_the_order_of_likers(log, limit, sampled):
    likes, training = positives(log), Training.from_split(log)
    allowed = None if sampled is None else sampled_items(log, likes, sampled, seed=0)
    ranks = rank_likes({"hashed": Scored(hashed)}, training.moments(likes, allowed=allowed), likes, limit)
    assert ranks["row"].equals(likes["row"])
    for place, row in enumerate(ranks.iter_rows(named=True)):
        items = {*range(log.items.height)} - past_of(log, row)
        if allowed is not None:
            assert len({*allowed[place]}) == len(allowed[place]) == 1 + min(sampled, len(items) - 1)
            assert {*allowed[place]} <= items
            items = {*allowed[place].tolist()}
        [scores] = hashed(training.moments(ranks[place]))
        expected = sorted(items, key=lambda item: (-scores[item], training.order.place[item]))
        rank = expected.index(row["item_index"]) + 1
        assert row["rank"] == (rank if rank <= limit else None)
        assert row["top_items"] == expected[:limit]
        assert row["candidates"] == len(items)


@given(interaction_tables().map(log_of).map(split), st.booleans())
def test_likes_of_items_that_may_not_be_recommended_are_not_drawn(log, repeat):
    liked = log.samples.filter(split="test", label=1)
    may = [
        row["row"]
        for row in liked.iter_rows(named=True)
        if row["item_index"] != 2 and (repeat or row["item_index"] not in past_of(log, row))
    ]
    assert positives(log, repeat=repeat, excluded=np.array([2]))["row"].to_list() == may


def test_a_larger_draw_keeps_a_smaller_one_and_its_negatives(log):
    whole, few, fewer = (positives(log, rows=rows) for rows in (None, 4, 2))
    assert (few.height, fewer.height) == (4, 2)
    assert set(fewer["row"]) < set(few["row"]) < set(whole["row"])
    of_all = dict(zip(whole["row"], sampled_items(log, whole, 3, 0), strict=True))
    for row, own in zip(few["row"], sampled_items(log, few, 3, 0), strict=True):
        np.testing.assert_array_equal(own, of_all[row])


def recommender_of(log, lens):
    sources = {name: {} for name in METHODS if name != "fusion"}
    choice = Choice(kind="fusion", order="candidates", sources=sources)
    return FittedRecommender.from_choice(Training.from_split(log), choice, RULES, LensReader(lens, log))


def test_the_lens_ranks_all_items_and_the_first_ones_of_each_method_at_the_likes_own_moment(log, lens):
    reader = LensReader(lens, log)
    rules = RULES.model_copy(update={"shortlist": 4})
    recommender = replace(recommender_of(log, lens), config=rules)
    ranks = rank_test_likes(recommender, CONFIG, reader)
    of_model = {model: own for (model,), own in ranks.group_by("model", maintain_order=True)}
    assert [*of_model] == [*METHODS, *(f"{name}_lens" for name in METHODS), "lens"]
    for first, second, every in zip(
        *(of_model[name].iter_rows(named=True) for name in ("item_knn", "item_knn_lens", "lens")), strict=True
    ):
        pairs = pl.DataFrame({"item_index": first["top_items"]}).with_columns(
            **{name: pl.lit(first[name]) for name in ("user_index", "history_end", "timestamp")}
        )
        logit = dict(zip(first["top_items"], reader.logits(pairs).tolist(), strict=True))
        shortlist, others = first["top_items"][:4], first["top_items"][4:]
        assert second["top_items"] == [*sorted(shortlist, key=lambda item: -logit[item]), *others]
        assert [logit[item] for item in every["top_items"] if item in logit] == sorted(logit.values(), reverse=True)
    without = rank_test_likes(recommender, CONFIG, None)
    assert without.equals(ranks.filter(pl.col("model").is_in(METHODS)))


def test_by_the_published_protocol_all_are_asked_right_behind_the_training_split(log, lens, monkeypatch):
    seen = []
    rank = item_ranks.rank_likes
    monkeypatch.setattr(item_ranks, "rank_likes", lambda *rest: seen.append(rest[1].frame) or rank(*rest))
    for protocol in ("live", "published"):
        rules = RULES.model_copy(update={"protocol": protocol})
        rank_test_likes(replace(recommender_of(log, lens), config=rules), CONFIG, None)
    own, last = seen
    assert own.equals(positives(log).select(own.columns))
    assert last.drop("timestamp").equals(own.drop("timestamp"))
    assert last["timestamp"].unique().to_list() == [log.samples.filter(split="train")["timestamp"].max() + 1]


def test_by_the_published_protocol_no_lens_counts_held_out_events_before_the_end_of_training(log, lens, caplog):
    """The fixture's split is by time; each user's last sample is held out in the other one."""
    last = pl.col("history_end") == pl.col("history_end").max().over("user_index")
    per_user = replace(
        log, samples=log.samples.with_columns(split=pl.when(last).then(pl.lit("test")).otherwise(pl.lit("train")))
    )
    for protocol, kept in (("live", [True, True]), ("published", [True, False])):
        readers = [item_ranks.lens_reader(lens, each, protocol) for each in (log, per_user)]
        assert [reader is not None for reader in readers] == kept
    assert caplog.text.count("The lens is left out") == 1


def test_the_published_protocol_needs_samples_of_training(log):
    log = replace(log, samples=log.samples.with_columns(split=pl.lit("test")))
    with pytest.raises(ValueError, match=r"this split has no samples\. Lower `history\.min_history`"):
        moments_of(positives(log), log, "published")


def test_likes_of_a_single_user_are_refused(log, lens):
    message = r"draws likes of 1 user\(s\), .*at least 2 are needed.* Raise `ranking\.rows`"
    with pytest.raises(ValueError, match=message):
        rank_test_likes(recommender_of(log, lens), CONFIG.model_copy(update={"rows": 1}), None)


def test_what_a_second_stage_reads_is_computed_once_for_all_methods(log, lens):
    asked = []

    def counted(moments):
        asked.append(len(moments))
        return hashed(moments)

    recommender = replace(recommender_of(log, lens), sources={"popularity": Scored(counted)})
    ranks = rank_test_likes(recommender, CONFIG, None)
    assert sum(asked) == positives(log).height
    one, other = (ranks.filter(model=name).drop("model") for name in ("popularity", "fusion"))
    assert one.equals(other)


def test_a_baseline_that_does_not_rank_is_refused(log, lens):
    message = r"ranking\.baseline is 'ranker': the models that rank are popularity, item_knn, fusion\. Name one"
    with pytest.raises(ValueError, match=message):  # no trees: the ranker would be the fusion again
        rank_test_likes(recommender_of(log, lens), CONFIG.model_copy(update={"baseline": "ranker"}), None)
