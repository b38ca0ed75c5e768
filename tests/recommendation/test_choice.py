"""Which method makes the lists."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from circle_log import circle_log
from named import PARAMETERS
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnConfig
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.popularity import PopularityConfig
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.recommendation import choice as module
from reclora_kedro.recommendation import second_stage
from reclora_kedro.recommendation.choice import MethodChoice, chosen_method, halves_of_users
from reclora_kedro.recommendation.chosen import Choice, choice_before, stored_choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage

BOOTSTRAP = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 200})
CONFIGS = {
    "popularity": PopularityConfig(days=()),
    "item_knn": ItemKnnConfig(popularity_powers=(0.5,), text_weights=(0.0,)),
}


def config(**changes):
    base = PARAMETERS["recommendation"] | {"sources": ["popularity", "item_knn"], "order": "candidates"}
    return RecommendationConfig.model_validate(base | changes)


def record(model, ndcg, p_adjusted=None, rows=900):
    return {"model": model, "k": 10, "rows": rows, "ndcg": ndcg, "p_adjusted": p_adjusted}


STAGE = SecondStage()
ALIKE = "item_knn", "it has NDCG@10 0.240 on 900 validation likes, and ranker (0.300) is not significantly better"


@pytest.mark.parametrize(
    ("before", "p_values", "expected", "reason"),
    [
        (None, (0.06, 0.06), *ALIKE),
        ("gone", (0.06, 0.06), *ALIKE),
        (None, (0.04, 0.06), "fusion", "it has NDCG@10 0.250 on 900"),
        (None, (0.04, 0.049), "ranker", "it has the highest NDCG@10 0.300 on 900 validation likes"),
        ("ranker", (0.06, 0.06), "ranker", "it stays, with the highest"),
        (
            "fusion",
            (0.06, 0.051),
            "fusion",
            "it stays, with NDCG@10 0.250 .* ranker (0.300) is not significantly better",
        ),
        ("fusion", (0.04, 0.049), "ranker", "it replaces fusion, 0.250 (p = 0.049), with the highest NDCG@10 0.300 on"),
        (
            "fusion",
            (0.06, 0.049),
            "item_knn",
            "it replaces fusion, 0.250 (p = 0.049), with NDCG@10 0.240 on .* not significantly better",
        ),
    ],
)
def test_the_simplest_method_that_is_not_significantly_worse_than_the_best_is_taken(before, p_values, expected, reason):
    knn, fusion = p_values
    compared = [record("fusion", 0.25, fusion), record("item_knn", 0.24, knn), record("ranker", 0.3)]
    compared += [record("popularity", 0.1, 0.0), record("linear", 0.23, 0.06 if knn > 0.05 else 0.0)]
    method, told = chosen_method(compared, before)
    assert method == expected
    assert all(part in told for part in reason.split(" .* "))


@pytest.mark.parametrize(
    ("before", "expected", "kept"), [(None, "fusion", "all sources are combined"), ("ranker", "ranker", "it stays")]
)
def test_few_likes_choose_no_method(before, expected, kept):
    compared = [record("linear", 0.9, rows=99), record("ranker", 0.1, 0.0, 99), record("fusion", 0.1, 0.0, 99)]
    reason = f"99 validation likes are too few to compare methods (100 are needed), so {kept}"
    assert chosen_method(compared, before) == (expected, reason)
    assert chosen_method([each | {"rows": 100} for each in compared], before)[0] == "linear"


def test_halves_of_likes_have_no_user_in_common_and_a_smaller_draw_is_within_a_larger_one():
    user = np.repeat(np.arange(21), 4)
    likes = pl.DataFrame({"user_index": user, "row": range(84)}).sample(fraction=1, shuffle=True, seed=0)
    teaching, choosing = halves_of_users(likes, (None, None), seed=3)
    assert {*teaching["user_index"]} | {*choosing["user_index"]} == {*range(21)}
    assert not {*teaching["user_index"]} & {*choosing["user_index"]}
    assert {*teaching["row"], *choosing["row"]} == {*range(84)}
    fewer = halves_of_users(likes, (5, 7), seed=3)
    assert [half.height for half in fewer] == [5, 7]
    assert {*fewer[0]["row"]} < {*teaching["row"]}
    assert {*fewer[1]["row"]} < {*choosing["row"]}


@pytest.fixture(scope="module")
def log():
    return circle_log()


def choose(log, before=None, **changes):
    given = {"log": log, "config": config(**changes), "configs": CONFIGS, "bootstrap": BOOTSTRAP}
    return MethodChoice(**given, in_use=before).choose()


def test_by_the_published_protocol_the_second_stage_reads_neither_times_nor_the_order_within_a_second(monkeypatch):
    """Other times in the same order, and another order within each user's second of two events, change nothing."""
    log, seen = circle_log(seed=2).with_embeddings(np.random.default_rng(1).normal(size=(21, 3))), []
    monkeypatch.setattr(SecondStage, "learned", lambda reader, moments, *_: seen.append((reader, moments)) or STAGE)
    monkeypatch.setitem(CONFIGS, "popularity", PopularityConfig(days=(11,)))
    events, published = log.sequences, config(protocol="published")
    user, place = np.divmod(np.arange(len(events.item_index)), 5)
    tied, swapped = np.array([0, 1, 1, 3, 4])[place], np.arange(len(place)) + np.array([0, 1, -1, 0, 0])[place]
    others = np.where(place == 0, user, 1000 * tied) * 1000
    for second, order in ((tied, slice(None)), (tied, swapped), (others, slice(None))):
        sequences = replace(events, timestamp=second, item_index=events.item_index[order])
        samples = log.samples.with_columns(timestamp=pl.Series(second[log.samples["event"].to_numpy()]))
        each = replace(log, sequences=sequences, samples=samples)
        chosen, _ = choose(each, protocol="published")
        measured = FittedRecommender.from_choice(Training.from_split(each), chosen, published)
        seen.append((measured.reader, seen[-1][1]))
    first, *others = [reader.read(moments) for reader, moments in seen]
    assert first.features["cosine_last"].n_unique() > 20
    for each in others:
        np.testing.assert_array_equal(each.item, first.item)
        for name in first.features.columns:
            np.testing.assert_allclose(each.features[name], first.features[name], atol=1e-5, err_msg=name)


def test_likes_of_other_users_than_those_that_taught_choose_the_method(log, monkeypatch):
    def next_item(moments):
        return ((np.arange(21) - log.sequences.item_index[moments.ends - 1][:, None]) % 20 == 1).astype(float)

    monkeypatch.setattr(ItemKnn, "scores", lambda model, moments: next_item(moments))
    taught = []
    learned = SecondStage.learned.__func__
    monkeypatch.setattr(
        SecondStage, "learned", classmethod(lambda cls, *rest: taught.append(rest[1].frame) or learned(cls, *rest))
    )
    ranked = []
    rank = module.rank_likes
    monkeypatch.setattr(module, "rank_likes", lambda *rest: ranked.append(rest[2]) or rank(*rest))
    choice, compared = choose(log)
    assert choice.kind == "fusion"
    assert choice.reason.startswith("75 validation likes are too few to compare methods")
    monkeypatch.setattr(module, "LEAST_LIKES", 75)
    choice, compared = choose(log)
    assert choice.kind == "item_knn"
    assert {each["model"]: each["ndcg"] for each in compared}["item_knn"] == 1
    assert choice.reason.startswith("it has the highest NDCG@10 1.000")
    assert not {*taught[0]["user_index"]} & {*ranked[0]["user_index"]}
    assert choice.at_test_moments.lists == log.samples.filter(split="test")["user_index"].n_unique()

    in_use = Choice(kind="popularity", order="candidates", sources=choice.sources)
    assert choose(log, in_use)[0].reason.startswith("it replaces popularity, ")
    assert stored_choice(choice.model_dump(mode="json")) == choice


def test_workers_choose_what_one_process_chooses(log, workers_here):
    configs = CONFIGS | {"item_knn": ItemKnnConfig(popularity_powers=(0.5, 0.1, 0.9), text_weights=(0.0,))}
    engines = (LOCAL, workers_here(7).model_copy(update={"workers": 2}))
    alone, shared = (
        MethodChoice(log=log, config=config(), configs=configs, bootstrap=BOOTSTRAP, engine=engine).choose()
        for engine in engines
    )
    assert alone == shared


def test_what_is_named_is_taken_without_a_comparison(log, monkeypatch):
    for method in ("popularity", "fusion"):
        choice, compared = choose(log, method=method)
        assert (choice.kind, choice.order, compared) == (method, "candidates", [])
        assert choice.reason == "the settings name this method"
    monkeypatch.setattr(second_stage, "LEAST_USERS", 1000)
    choice, _ = choose(log, method="ranker")
    assert (choice.kind, choice.stage.trees) == ("fusion", None)
    assert "no trees improve the fusion" in choice.reason


def test_an_excluded_id_of_no_item_is_told_once(log, caplog):
    choose(log, method="popularity", exclude_items=["NOPE"])
    assert caplog.text.count("match no item, such as NOPE") == 1


def test_a_wrong_id_of_a_user_is_refused_before_anything_is_fitted(log, monkeypatch):
    monkeypatch.setattr(module.Training, "from_split", lambda *rest: pytest.fail("models are fitted"))
    with pytest.raises(ValueError, match=r"recommendation\.users: '018': ids of this log are whole numbers: write 18"):
        choose(log, users=[1, "018"])


def test_likes_of_a_single_user_choose_nothing_and_that_is_said(log, caplog):
    other_user = pl.when(pl.col("user_index") > 1).then(pl.lit("train")).otherwise("split")
    few = replace(log, samples=log.samples.with_columns(split=other_user))
    choice, compared = choose(few)
    assert (choice.kind, compared) == ("fusion", [])
    assert choice.reason == "1 user(s) with validation likes are too few to compare methods"
    assert "2 are needed. fusion is used" in caplog.text


def test_an_order_by_the_lens_needs_one(log):
    with pytest.raises(ValueError, match=r"recommendation\.order is lens, but there is no lens"):
        choose(log, order="lens")


def test_the_choice_of_an_earlier_release_is_refused_and_not_compared_with(caplog):
    old = {"kind": "neighbours", "order": "lens", "popularity": None, "linear": None}
    other_settings = {"kind": "linear", "order": "lens", "sources": {"linear": {"text_power": 2.0}}}
    read_lens = Choice(kind="fusion", order="candidates", sources={}, stage=SecondStage(weights={"lens": 1.0}))
    for record in (read_lens, read_lens.model_copy(update={"stage": SecondStage(trees="a\nfeature_names=x lens y")})):
        with pytest.raises(ValueError, match=r"earlier release, where fusion and ranker read the click model\. Choose"):
            stored_choice(record.model_dump(mode="json"))
    for record, fault in (
        (old, "Choice has sources: Field required"),
        (other_settings, "LinearSettings has text_power"),
    ):
        with pytest.raises(ValueError, match=rf"candidate_choice is from an earlier release: {fault}.* Choose again"):
            stored_choice(record)
    assert choice_before(old) is choice_before(other_settings) is choice_before(None) is None
    assert "not compared with" in caplog.text
