"""Comparison of the current model and the challenger on events that neither was trained on, and rollback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table

from reclora_kedro.current_model import CurrentModel, ModelInHistory
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import bootstrap_auc
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY
from reclora_kedro.terminal import text_table
from reclora_kedro.update.config import PromotionConfig

FORGOTTEN = "forgotten"  # what a model's decision has `chosen` where users were forgotten
LEAST_USERS = 2  # with a like, and with a dislike: there is no spread over fewer


class Decision(BaseModel):
    """Which of two models is used from now on, and why. Figures that were not measured are null."""

    model_config = ConfigDict(frozen=True)

    chosen: Literal["champion", "challenger"]
    reason: str
    rows: int
    likes: int
    users: int
    champion_auc: float | None = None
    challenger_auc: float | None = None
    difference: float | None = None
    lower_bound: float | None = None  # of the difference
    margin: float | None = None
    level: float | None = None

    @classmethod
    def undecided(cls, samples: pl.DataFrame, reason: str) -> Self:
        """Return the decision to keep the current model without a measurement."""
        likes, users = int(samples["label"].sum()), samples["user_index"].n_unique()
        return cls(chosen="champion", reason=reason, rows=samples.height, likes=likes, users=users)


class DecisionAmongThree(Decision):
    """The decision on the newest rows, which those on others may overrule."""

    held_out: Decision  # on older rows
    first: Decision  # against the first model, on both
    trusted: Decision  # on the first model's test rows


@dataclass(frozen=True)
class Promotion:
    """The rule by which a challenger replaces the current model, and the intervals that it reads."""

    config: PromotionConfig
    bootstrap: Bootstrap

    def decide(
        self,
        samples: pl.DataFrame,
        current: np.ndarray,
        challenger: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Decision:
        """Decide whether the challenger replaces the current model: if it is worse by at most a margin.

        That is shown if the lower end of the one-sided interval of the difference of AUCs, by a bootstrap over users,
        is above minus the margin (non-inferiority). If it cannot be measured, or nothing was learned, the current model
        stays. The samples, of the newest events, may weigh differently in AUCs.
        """
        labels, users = samples["label"].to_numpy() == 1, samples["user_index"].to_numpy()
        likers, dislikers = (len(np.unique(users[chosen])) for chosen in (labels, ~labels))
        if min(likers, dislikers) < LEAST_USERS:
            reason = (
                f"too few users to compare: {likers} with a like and {dislikers} with a dislike among the newest rows"
            )
            return Decision.undecided(samples, reason)
        scores = np.stack([current, challenger])
        auc = bootstrap_auc(
            PairedScores(("current", "challenger"), np.arange(len(labels)), users, labels, scores),
            self.bootstrap,
            weights,
        )
        difference = auc.differences(np.array([1]), np.array([0]))
        lower, value = float(difference.interval(1 - 2 * self.config.level)[0][0]), float(difference.value[0])
        change = f"the AUC changes by {value:+.4f}, at least {lower:+.4f}"
        if np.array_equal(current, challenger):
            chosen, reason = "champion", "training did not improve the validation AUC"
        elif lower > -self.config.margin:
            chosen, reason = "challenger", f"{change}, within the margin of {self.config.margin:g}"
        else:
            chosen, reason = "champion", f"{change}, beyond the margin of {self.config.margin:g}"
        figures = dict(zip(("champion_auc", "challenger_auc"), map(float, auc.value), strict=True))
        figures |= {"difference": value, "lower_bound": lower, "margin": self.config.margin, "level": self.config.level}
        return Decision.undecided(samples, reason).model_copy(update={"chosen": chosen, **figures})

    def decide_among_three(
        self,
        newest: pl.DataFrame,
        held_out: pl.DataFrame,
        trusted: pl.DataFrame,
        scores: Mapping[str, np.ndarray],
        *,
        accept: bool,
    ) -> DecisionAmongThree:
        """Decide whether the challenger replaces the current model: if it is no worse on newest rows and on older ones.

        Older rows weigh half as much for each half-life that they are older than the newest one, since tastes change.
        On all of them, it must not be worse than the first model by more than the margin either, since margins would
        add up over updates; nor on the first model's test rows, whose labels no update can have changed. All of these
        alarms may be accepted. `scores` are those of the newest, the older and the trusted rows, the first model's test
        rows, by `champion` (the current model), `challenger` and `first` (the first model).
        """
        current, challenger, first = (scores[name] for name in ("champion", "challenger", "first"))
        rows, both = newest.height, pl.concat([newest, held_out])
        new, old, known = slice(rows), slice(rows, both.height), slice(both.height, None)
        decision = self.decide(newest, current[new], challenger[new])
        age = both["timestamp"].max() - held_out["timestamp"].to_numpy() if held_out.height else np.zeros(0)
        weights = np.exp2(-age / (self.config.half_life_days * SECONDS_PER_DAY))
        others = {
            "held_out": self.decide(held_out, current[old], challenger[old], weights),
            "first": self.decide(both, first[: both.height], challenger[: both.height]),
            "trusted": self.decide(trusted, first[known], challenger[known]),
        }
        on_trusted = f"on {trusted.height:,} test rows of the first model"
        places = (f"on {held_out.height:,} older rows", "beside the first model", on_trusted)
        pairs = zip(places, others.values(), strict=True)
        alarms = [f"{place}, {other.reason}" for place, other in pairs if other.chosen == "champion"]
        chosen, reason = decision.chosen, decision.reason
        if chosen == "challenger" and alarms:
            alarm = f"{'; '.join(alarms)} (on {rows:,} newest rows, {reason})"
            if accept:
                reason = f"{alarm}, accepted by update.accept"
            else:
                chosen, reason = "champion", f"{alarm}: update.accept=[lens] accepts it anyway"
        return DecisionAmongThree(**dict(decision) | others | {"chosen": chosen, "reason": reason})


def rolled_back(history: Sequence[ModelInHistory]) -> CurrentModel:
    """Return the previous model as the next one; repeated rollbacks each go one further back.

    None goes back before the forgetting of a user, whom earlier versions still hold: ValueError. The history begins
    with the current model.
    """
    if not history:
        raise ValueError("There is no model to roll back from yet: `kedro run --pipelines update` makes the first one.")
    present = history[0]
    forgotten = next((n for n, each in enumerate(history) if each["decision"].get("chosen") == FORGOTTEN), len(history))
    origin = present["decision"].get("to", present["version"])
    candidates = (each for each in history[: forgotten + 1] if each["version"] < origin)
    before = next((each for each in candidates if each["versions"] != present["versions"]), None)
    if before is None:
        raise ValueError(
            f"The current model {present['version']} stays, because no earlier model has other versions. Its history "
            f"has {len(history)} entries"
            + (", back to the time when users were forgotten." if forgotten < len(history) else ".")
        )
    to = before["decision"].get("to", before["version"])
    decision = {"chosen": "rollback", "to": to, "from": present["version"]}
    return {"versions": before["versions"], "decision": decision, "made_by": before["made_by"]}


def current_model_table(current: CurrentModel) -> Table:
    records = [{"entry": entry, "version": version} for entry, version in current["versions"].items()]
    columns = {"entry": (str, "entry"), "version": (str, "version")}
    return text_table(f"Current model: {current['decision']['chosen']}", records, columns, {})


def update_table(news: Sequence[Mapping[str, Any]]) -> Table:
    changes = [record for record in news if record["rows"]]
    texts = {"": (str, "check"), "what was done": (str, "rule")}
    return text_table("New data of this update", changes, texts, {"rows": ("{:,}".format, "rows")})


def promotion_table(of: str, decision: Decision) -> Group:
    """Tabulate the comparison of the current model and the challenger on the newest events, and the decision."""
    chosen: dict[str, str] = {decision.chosen: "chosen"}
    aucs = {"champion": ("current", decision.champion_auc), "challenger": ("challenger", decision.challenger_auc)}
    models = [{"model": of, "auc": auc, "chosen": chosen.get(name, "")} for name, (of, auc) in aucs.items()]
    title = f"{of}: newest {decision.rows:,} rows, {decision.users:,} users"
    column = {"AUC": (lambda value: "-" if value is None else f"{value:.4f}", "auc")}
    return Group(text_table(title, models, {"model": (str, "model"), "": (str, "chosen")}, column), decision.reason)
