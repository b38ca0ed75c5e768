"""When a challenger takes the current model's place."""

import re

import numpy as np
import polars as pl
import pytest

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.update.config import PromotionConfig
from reclora_kedro.update.promotion import Promotion, rolled_back

YEAR = 365 * 86_400
BOOTSTRAP = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 200})
PROMOTION = Promotion(PromotionConfig(margin=0.02, half_life_days=30), BOOTSTRAP)


def newest_rows(users=100, rows=2000, seed=0):
    """Rows of some users, and scores that tell likes apart more or less well."""
    random = np.random.default_rng(seed)
    label, user = random.integers(2, size=rows), random.integers(users, size=rows)
    return pl.DataFrame({"user_index": user, "label": label}), lambda noise: label + random.normal(0, noise, rows)


@pytest.mark.parametrize(("noise", "chosen"), [(0.5, "challenger"), (1.01, "challenger"), (3.0, "champion")])
def test_a_challenger_that_is_not_worse_takes_the_place(noise, chosen):
    rows, scores = newest_rows()
    current = scores(1.0)
    challenger = current + 1e-9 if noise == 1.01 else scores(noise)
    decision = PROMOTION.decide(rows, current, challenger)
    assert decision.chosen == chosen
    assert decision.lower_bound <= decision.difference
    assert decision.difference == pytest.approx(decision.challenger_auc - decision.champion_auc)


def test_a_difference_that_few_rows_leave_open_keeps_the_current_model():
    rows, scores = newest_rows(users=8, rows=24)
    decision = PROMOTION.decide(rows, scores(1.0), scores(1.0))
    assert (decision.chosen, decision.rows) == ("champion", 24)
    assert decision.lower_bound < -PROMOTION.config.margin


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_cannot_be_measured_keeps_the_current_model(kept):
    rows, scores = newest_rows()
    alike = rows.filter(label=1).head(kept)
    decision = PROMOTION.decide(alike, scores(1.0)[:kept], scores(1.0)[:kept])
    assert decision.chosen == "champion"
    assert "too few" in decision.reason
    assert decision.champion_auc is None


def test_a_challenger_that_learned_nothing_is_the_current_model():
    rows, scores = newest_rows()
    current = scores(1.0)
    assert PROMOTION.decide(rows, current, current).chosen == "champion"


def test_a_challenger_that_is_worse_on_older_rows_or_than_the_first_model_stays_out():
    every, scores = newest_rows(rows=4000)
    every = every.with_columns(timestamp=pl.int_range(4000))
    newest, held_out, trusted = every.head(2000), every.slice(2000, 1000), every.tail(1000)
    current, good = scores(1.0), scores(1.0)

    def chosen(challenger, first=current, **settings):
        named = {"champion": current, "challenger": challenger, "first": first}
        return PROMOTION.decide_among_three(newest, held_out, trusted, named, **{"accept": False} | settings)

    near = current + 0.1 * (good - current)
    assert chosen(near).chosen == "challenger"
    forgets = np.concatenate([near[:2000], scores(3.0)[2000:3000], near[3000:]])
    refused, accepted = chosen(forgets), chosen(forgets, accept=True)
    assert (refused.chosen, accepted.chosen) == ("champion", "challenger")
    for figures in (refused, accepted):  # of what was gained, and of what was lost
        assert re.search(
            r"on 1,000 older rows, the AUC changes by -.*on 2,000 newest rows, the AUC changes by \+", figures.reason
        )
    assert refused.reason.endswith("update.accept=[lens] accepts it anyway")
    false = chosen(np.concatenate([near[:3000], -current[3000:]]))
    assert false.reason.startswith("on 1,000 test rows of the first model, the AUC changes by -")
    lost = chosen(near, first=scores(0.5))
    assert lost.chosen == "champion"
    assert "beside the first model" in lost.reason
    assert chosen(near, first=scores(0.5), accept=True).chosen == "challenger"


def test_old_rows_weigh_less_the_older_they_are():
    every, scores = newest_rows(rows=4000)
    newest, old, recent = every.head(2000), every.slice(2000, 1000), every.tail(1000)
    held_out = pl.concat([old.with_columns(timestamp=0), recent.with_columns(timestamp=YEAR)])
    current = scores(1.0)
    drifted = np.concatenate([scores(0.5)[:2000], scores(3.0)[2000:3000], scores(0.5)[3000:]])
    named = {"champion": current, "challenger": drifted, "first": current}
    decisions = [
        PROMOTION.decide_among_three(
            newest.with_columns(timestamp=YEAR), rows, recent.with_columns(timestamp=YEAR),
            {name: np.append(each, each[3000:]) for name, each in named.items()}, accept=False,
        )
        for rows in (held_out, held_out.with_columns(timestamp=YEAR))
    ]  # fmt: skip
    assert [each.chosen for each in decisions] == ["challenger", "champion"]


def test_rollbacks_after_an_update_go_behind_what_was_rolled_back():
    def current(version, names, **decision):
        return {"version": version, "versions": {"lens": names}, "decision": decision, "made_by": names}

    history = [current("4", "4"), current("3", "1", to="1"), current("2", "2"), current("1", "1")]
    once = rolled_back(history)
    assert (once["versions"], once["decision"]["to"], once["made_by"]) == ({"lens": "1"}, "1", "1")
    with pytest.raises(ValueError, match="no earlier model"):
        rolled_back([{"version": "5", **once}, *history])
    behind = [current("5", "5"), current("4", "4", chosen="forgotten"), *history[1:]]
    assert rolled_back(behind)["versions"] == {"lens": "4"}
    with pytest.raises(ValueError, match="back to the time when users were forgotten"):
        rolled_back(behind[1:])
    with pytest.raises(ValueError, match="no model to roll back from yet"):
        rolled_back([])
