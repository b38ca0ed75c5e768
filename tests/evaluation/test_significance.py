"""AUC against scikit-learn, the bootstrap over users against DeLong's standard errors and against simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation import bootstrap as bootstrapping
from reclora_kedro.evaluation.bootstrap import Bootstrap, holm
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import AucBootstrap, ScoreOrder, bootstrap_auc, compare_models

FEW_DRAWS = 100


def paired_scores(models: int = 2) -> st.SearchStrategy[PairedScores]:
    """Scores of few users with few distinct scores, so that most are tied within and between the classes."""

    @st.composite
    def draw_scores(draw: st.DrawFn) -> PairedScores:
        labels = [True, True, False, False, *draw(st.lists(st.booleans(), max_size=40))]
        users = [3, 8, 3, 8, *draw(st.lists(st.integers(0, 9), min_size=len(labels) - 4, max_size=len(labels) - 4))]
        levels = draw(st.integers(1, 50))
        row = st.lists(st.integers(0, levels), min_size=len(labels), max_size=len(labels))
        scores = np.array(draw(st.lists(row, min_size=models, max_size=models))) / levels
        return paired(np.array(users), np.array(labels), scores)

    return draw_scores()


def paired(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> PairedScores:
    return PairedScores(("a", "b", "c")[: len(scores)], np.arange(len(labels)), users, labels, scores)


def with_scores(former: PairedScores, scores: np.ndarray) -> PairedScores:
    return paired(former.users, former.labels, scores)


def bootstrap(pair: PairedScores, samples: int, seed: int) -> AucBootstrap:
    return bootstrap_auc(pair, Bootstrap(confidence=0.95, seed=seed).model_copy(update={"samples": samples}))


def compare(pair: PairedScores, samples: int = FEW_DRAWS, confidence: float = 0.95) -> list[dict]:
    return compare_models(bootstrap(pair, samples, seed=0), confidence)


def plain_delong(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Covariance of the AUCs of independent rows, every like compared with every dislike (DeLong et al., 1988)."""
    likes, dislikes = scores[:, labels], scores[:, ~labels]
    kernel = (likes[:, :, None] > dislikes[:, None, :]) + 0.5 * (likes[:, :, None] == dislikes[:, None, :])
    return np.cov(kernel.mean(axis=2)) / likes.shape[1] + np.cov(kernel.mean(axis=1)) / dislikes.shape[1]


def clustered(random: np.random.Generator, users: int, rows: int = 20) -> PairedScores:
    """Users who differ in how much they like, and models that know some of it."""
    user = np.repeat(np.arange(users), rows)
    leniency = random.normal(size=users)[user]
    labels = random.random(len(user)) < 1 / (1 + np.exp(-leniency))
    noise = random.normal(size=(2, len(user)))
    return paired(user, labels, labels + noise + np.array([[1.0], [0.8]]) * leniency)


@given(paired_scores(), st.data())
def test_the_auc_is_that_of_scikit_learn_for_any_weights(pair: PairedScores, data: st.DataObject):
    weight = st.floats(0.25, 4)
    weights = np.array(data.draw(st.lists(weight, min_size=10, max_size=10)))
    for scores in pair.scores:
        [found] = ScoreOrder.from_scores(pair.users, pair.labels, scores).auc(weights[:, None])
        expected = roc_auc_score(pair.labels, scores, sample_weight=weights[pair.users])
        assert found == pytest.approx(expected, abs=1e-12)


@given(paired_scores())
def test_the_auc_of_the_rows_is_that_of_scikit_learn(pair: PairedScores):
    expected = [roc_auc_score(pair.labels, scores) for scores in pair.scores]
    assert bootstrap(pair, FEW_DRAWS, seed=0).value == pytest.approx(expected, abs=1e-12)


def test_with_one_row_per_user_standard_errors_are_those_of_delong():
    random = np.random.default_rng(1)
    labels = random.random(400) < 0.4
    pair = paired(np.arange(400), labels, np.round(labels + random.normal(size=(2, 400)), 1))
    auc, covariance = bootstrap(pair, 4000, seed=0), plain_delong(labels, pair.scores)
    assert auc.estimate().standard_error == pytest.approx(np.sqrt(np.diag(covariance)), rel=0.05)
    difference = auc.differences(np.array([1]), np.array([0])).standard_error
    assert difference == pytest.approx(np.sqrt([1, -1] @ covariance @ [1, -1]), rel=0.05)


@given(paired_scores(), st.integers(2, 4))
def test_repeated_rows_of_a_user_tell_nothing_new(pair: PairedScores, times: int):
    repeated = paired(*(np.repeat(part, times, axis=-1) for part in (pair.users, pair.labels, pair.scores)))
    before, after = bootstrap(pair, FEW_DRAWS, seed=0), bootstrap(repeated, FEW_DRAWS, seed=0)
    assert (before.value == after.value).all()
    assert (before.replicates == after.replicates).all()


@given(paired_scores(models=1))
def test_identical_models_do_not_differ(pair: PairedScores):
    [record] = compare(with_scores(pair, pair.scores[[0, 0]]))
    assert [record[name] for name in ("auc_difference", "low", "high")] == [0, 0, 0]
    assert record["p_value"] == record["p_adjusted"] == 1


@given(paired_scores())
def test_swapping_the_models_turns_the_sign(pair: PairedScores):
    [record] = compare(pair)
    [swapped] = compare(with_scores(pair, pair.scores[::-1]))
    assert swapped["auc_difference"] == -record["auc_difference"]
    assert (swapped["low"], swapped["high"]) == (-record["high"], -record["low"])
    assert swapped["p_value"] == record["p_value"]


@given(paired_scores())
def test_only_the_order_of_scores_matters(pair: PairedScores):
    # The strategy's scores are far enough apart to stay distinct in floating point under these transforms.
    for transform in (np.sqrt, lambda scores: scores / 4, lambda scores: scores**3):
        assert compare(with_scores(pair, transform(pair.scores))) == compare(pair)


@given(paired_scores())
def test_names_of_users_do_not_matter(pair: PairedScores):
    renamed = paired(7 * pair.users + 100, pair.labels, pair.scores)
    assert compare(renamed) == compare(pair)


def test_the_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch):
    pair = clustered(np.random.default_rng(0), users=30)
    at_once = bootstrap(pair, FEW_DRAWS, seed=0).replicates
    monkeypatch.setattr(bootstrapping, "CHUNK_WEIGHTS", 7 * len(pair.labels))
    assert (bootstrap(pair, FEW_DRAWS, seed=0).replicates == at_once).all()
    assert not (bootstrap(pair, FEW_DRAWS, seed=1).replicates == at_once).any()


def test_draws_of_one_class_are_left_out():
    users, labels = np.array([0, 1, 2, 3, 4]), np.array([True, True, False, False, False])
    auc = bootstrap(paired(users, labels, np.array([[0.9, 0.2, 0.1, 0.3, 0.5]])), 1000, seed=0)
    lost = 0.6**5 + 0.4**5
    assert auc.replicates.shape[1] == pytest.approx(1000 * (1 - lost), abs=40)
    assert np.isfinite(auc.replicates).all()


@pytest.mark.parametrize(("users", "found"), [([4, 4, 4, 4], "1"), ([4, 4, 5, 6], "1"), ([5, 6, 4, 4], "2")])
def test_too_few_users_are_refused(users: list[int], found: str):
    pair = paired(np.array(users), np.array([True, True, False, False]), np.zeros((1, 4)))
    message = rf"the likes are of {found} user\(s\) and .* at least 2 .* raise history.prompt_rows.test"
    with pytest.raises(ValueError, match=message):
        bootstrap(pair, FEW_DRAWS, seed=0)


@pytest.mark.parametrize("users", [12, 60])
def test_intervals_hold_the_truth_as_often_as_they_say(users: int):
    everyone = clustered(np.random.default_rng(0), users=20_000)
    truth = np.array([roc_auc_score(everyone.labels, scores) for scores in everyone.scores])
    random, held = np.random.default_rng(7), []
    for seed in range(400):
        auc = bootstrap(clustered(random, users), 200, seed)
        gain = auc.differences(np.array([1]), np.array([0]))
        for estimate, expected in ((auc.estimate(), truth), (gain, truth[1] - truth[0])):
            low, high = estimate.interval(0.95)
            held.extend((low <= expected) & (expected <= high))
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_rows_of_users_who_differ_are_worth_less_than_independent_ones():
    pair = clustered(np.random.default_rng(3), users=100)
    of_users = bootstrap(pair, 500, seed=0).estimate().standard_error
    of_rows = np.sqrt(np.diag(plain_delong(pair.labels, pair.scores)))
    assert (of_users > 1.1 * of_rows).all()


def test_every_pair_is_compared_later_model_first():
    scores = np.random.default_rng(0).random((3, 20))
    names = ("lens", "shared_lora", "reclora")
    pair = PairedScores(names, np.arange(20), np.arange(20) // 2, np.arange(20) % 2 == 0, scores)
    pairs = [(record["model_a"], record["model_b"]) for record in compare(pair)]
    assert pairs == [("shared_lora", "lens"), ("reclora", "lens"), ("reclora", "shared_lora")]


def test_p_values_are_corrected_over_all_pairs():
    records = compare(clustered(np.random.default_rng(0), users=40), samples=500)
    assert [record["p_adjusted"] for record in records] == [record["p_value"] for record in records]
    pair = clustered(np.random.default_rng(0), users=40)
    three = with_scores(pair, np.concatenate([pair.scores, np.random.default_rng(1).random((1, 800))]))
    records = compare(three, samples=500)
    adjusted = holm(np.array([record["p_value"] for record in records]))
    assert [record["p_adjusted"] for record in records] == adjusted.tolist()


def test_one_model_has_no_pairs():
    assert compare(paired(np.arange(6), np.arange(6) % 2 == 0, np.zeros((1, 6)))) == []


def test_a_reversed_perfect_ranking_is_beyond_chance():
    labels = np.array([True, True, False, False])
    [record] = compare(paired(np.arange(4), labels, np.array([labels, ~labels], dtype=float)))
    assert (record["auc_difference"], record["p_value"]) == (-1, 0)


def test_the_interval_and_the_p_value_agree():
    for seed in range(20):
        pair = clustered(np.random.default_rng(seed), users=15)
        for confidence in (0.6, 0.8, 0.95):
            [record] = compare(pair, confidence=confidence)
            assert (record["low"] > 0 or record["high"] < 0) == (record["p_value"] < 1 - confidence)
