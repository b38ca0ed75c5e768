"""Preferences: an adapter learns which of two items a user likes more, relative to references (DPO, MRPO)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator
from scipy.special import log_expit, logsumexp

from reclora_kedro.evaluation.scores import join_all
from reclora_kedro.finetuning.examples import AdapterTask, Examples, Objective
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY
from reclora_kedro.parameters import NonNegative

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet

UNTRAINED, LENS = "untrained", "lens"  # references that need no other variant: the LLM without an adapter, and the lens
CLIP = 0.1  # of the other references' log probabilities, as a share of the first one's: MRPO's

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pairs(Examples):
    """Prompts in pairs, and labels of whether the first item of each is liked more.

    The margin of a pair is the logit of its first prompt less that of the second one. Its loss is the cross entropy
    between its label and ``sigmoid(beta (margin - reference))`` (DPO, Rafailov et al. 2023, arXiv 2305.18290,
    equation 7).
    """

    labels: np.ndarray  # in [0, 1], shape (pairs,); 1 where the first item is liked more
    references: np.ndarray  # margins of the reference, shape (pairs,)
    beta: float = 1.0  # weight of the margins
    prompts_each: ClassVar[int] = 2

    def losses(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        return self.dpo_losses(model.llm_logits(batch), self.labels[examples], examples)

    def dpo_losses(self, scores: Tensor, labels: np.ndarray, examples: np.ndarray) -> Tensor:
        """Losses of some examples, shape (n,), by a score per prompt, shape (n · 2,), and labels, shape (n,)."""
        import torch
        from torch.nn import functional as F

        first, second = scores.view(len(examples), 2).unbind(1)
        wanted, references = (torch.from_numpy(each).to(scores) for each in (labels, self.references[examples]))
        margins = first - second
        return F.binary_cross_entropy_with_logits(self.beta * (margins - references), wanted, reduction="none")


class Preference(Objective):
    """Pairs of a liked and a not liked few-shot row of one user, see `pair_rows`, relative to references."""

    inputs_from: ClassVar[str] = "reclora_extras.objectives.pipeline:logits_of_references"

    references: list[str] = Field(default_factory=lambda: [UNTRAINED], min_length=1)
    reference_weights: list[NonNegative] | None = None
    max_days_apart: NonNegative = 30.0

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        repeated = sorted({name for name in self.references if self.references.count(name) > 1})
        if repeated:
            raise ValueError(f"references names {repeated[0]} twice: name another one, or this one once")
        weights = self.reference_weights
        if weights is not None and (len(weights) != len(self.references) or not sum(weights)):
            raise ValueError(
                f"reference_weights has {len(weights)} weights with the sum {sum(weights):g}, but there are "
                f"{len(self.references)} references: give each one a weight, at least one above 0, or set null"
            )
        return self

    def fine_tune(self, training: AdapterTask) -> pl.DataFrame:
        """See `Objective.fine_tune`; the inputs are the row and logit of each reference that is another variant."""
        rows = training.few_shot, training.questions
        pairs = self.pairs(training.model, *rows, training.tokens_per_batch, *training.inputs)
        return training.train(pairs, training.checkpoints)

    def pairs(
        self,
        model: AnswerModel,
        few_shot: PromptSet,
        questions: pl.DataFrame,
        tokens_per_batch: int,
        *reference_logits: pl.DataFrame,
    ) -> Pairs:
        """Pair the few-shot rows, and compute the margins of the references, see `AdapterTask`.

        MismatchError is raised for a reference without a logit of a row, ValueError if no two rows make a pair.
        """
        users = questions["user_index"]
        places = pair_rows(questions, self.max_days_apart)
        if not len(places):
            raise ValueError(
                f"Preferences are pairs of a liked and a not liked row of one user within {self.max_days_apart:g} "
                f"days, but the {questions.height} few-shot rows of {users.n_unique()} users have none: raise "
                "training.objective.max_days_apart, or draw more of them by history.prompt_rows.few_shot."
            )
        logger.info("%d pairs of %d few-shot rows", len(places), questions.height)
        prompts, of_variants = few_shot.take(places.ravel()), iter(reference_logits)
        model.model.eval()

        def margins_of(reference: str) -> np.ndarray:
            if reference == UNTRAINED:
                logits = model.all_llm_logits(prompts, tokens_per_batch, "score untrained")
            elif reference == LENS:
                assert prompts.gate_inputs is not None
                logits = prompts.gate_inputs.lens_logits.double().numpy()
            else:
                logits = _logits_of_rows(next(of_variants), prompts.rows, reference)
            return logits[::2] - logits[1::2]

        margins = np.array([margins_of(reference) for reference in self.references])
        joint = joint_margins(margins, CLIP, self.reference_weights)
        first_users = users.to_numpy()[places[:, 0]]
        return Pairs(prompts, first_users, labels=np.ones(len(places)), references=joint)


def _logits_of_rows(scored: pl.DataFrame, rows: np.ndarray, reference: str) -> np.ndarray:
    wanted = pl.DataFrame({"row": rows}, schema={"row": scored.schema["row"]})
    refusal = f"The reference {reference} has no logit for {{}} few-shot rows {{}}: its logits are of a different run."
    return join_all(wanted, scored, ["row"], refusal, f"{reference}.few_shot_logits")["logit"].to_numpy()


def pair_rows(questions: pl.DataFrame, max_days: float) -> np.ndarray:
    """Return pairs of a liked and a not liked row of one user, (pairs, 2), nearest in time to one another.

    Examples:
        >>> questions = pl.DataFrame({"user_index": [7, 7, 7, 8], "timestamp": [0, 9, 10, 10], "label": [1, 1, 0, 0]})
        >>> pair_rows(questions, max_days=1)
        array([[0, 2],
               [1, 2]])
    """
    rows = questions.select(pl.int_range(pl.len()).alias("place"), "user_index", "timestamp", "label")
    liked, other = (
        rows.filter(label=label).drop("label").rename({"place": name}).sort("timestamp")
        for label, name in ((1, "liked"), (0, "other"))
    )
    tolerance = int(max_days * SECONDS_PER_DAY)

    def joined(near: pl.DataFrame, far: pl.DataFrame) -> pl.DataFrame:
        return near.join_asof(
            far, on="timestamp", by="user_index", strategy="nearest", tolerance=tolerance, check_sortedness=False
        ).select("liked", "other")

    pairs = pl.concat([joined(liked, other), joined(other, liked)]).drop_nulls().unique().sort("liked", "other")
    return pairs.to_numpy()


def joint_margins(margins: np.ndarray, clip: float, weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the joint margins of several references (MRPO, Le et al. 2024, arXiv 2405.16388, sections 3.2 to 3.4).

    With ``log p_k`` the log sigmoid of reference k's margin for the liked item, and of its negative for the other one,
    the joint reference is the weighted harmonic mean ``1 / sum_k (a_k / p_k)``. The first reference is the anchor: the
    others' ``log p_k`` are clipped to within ``log p_1 (1 ± e)`` first (CTRO). The range of each item is its share of
    the clip, ``e = clip |m| / (|m_liked| + |m_other|)``, where ``m`` is the mean of ``log p_k`` over the references:
    the likelier item has the smaller one. A reference weighs by its confidence, ``a_k = |d_k| / sum_j |d_j|`` with the
    margins ``d`` (ARWC), unless weights, the same for all pairs, are given.

    Margins are (references, pairs), the anchor first; `clip` is the sum of the two items' ranges, as a share of the
    anchor's log probability. It returns the log probability of the liked item less that of the other one, (pairs,).

    Examples:
        >>> joint_margins(np.array([[2.0, -1.0], [2.0, 3.0], [2.0, 0.0]]), clip=0).round(9)
        array([ 2., -1.])
    """
    margins = margins.astype(np.float64)
    log_p = log_expit(np.stack([margins, -margins]))  # (items, references, pairs)
    anchor, means = log_p[:, :1], np.abs(log_p.mean(axis=1, keepdims=True))
    ranges = clip * means / means.sum(axis=0)
    clipped = np.clip(log_p, anchor * (1 + ranges), anchor * (1 - ranges))
    shares = np.abs(margins) if weights is None else np.broadcast_to(np.array(weights)[:, None], margins.shape)
    total = shares.sum(axis=0)
    shares = np.divide(shares, total, out=np.full_like(margins, 1 / len(margins)), where=total > 0)
    liked, other = -logsumexp(-clipped, axis=1, b=shares)
    return liked - other
