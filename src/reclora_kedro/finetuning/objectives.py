"""Objectives: what an adapter learns from its rows, one by one as clicks, or two by two as preferences."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from kedro_provenance.parameters import Block
from reclora_kedro.evaluation.scores import join_all
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.parameters import Count, NonNegative, Positive

UNTRAINED, LENS = "untrained", "lens"
"""References that need no other variant: the LLM as it came, and the lens."""
SECONDS_PER_DAY = 86_400

logger = logging.getLogger(__name__)


class ObjectiveConfig(Block):
    """What an adapter learns, and what it is held against."""

    kind: Literal["click", "preference", "self_generated"] = "click"
    references: list[str] = Field(default_factory=lambda: [UNTRAINED], min_length=1, max_length=2)
    reference_clip: NonNegative = 0.1
    beta: Positive = 1.0
    max_days_apart: NonNegative = 30.0
    rounds: Count = 2
    extrapolation: NonNegative = 0.3

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        if len({*self.references}) < len(self.references):
            raise ValueError(f"references names {self.references[0]} twice: name another one, or this one once")
        return self


@dataclass(frozen=True)
class Examples:
    """What an adapter learns from: prompts, one or two per example, and what their logits are to say.

    The margin of an example is the logit of its prompt or, where it has two, that of the first less that of the second.
    Its loss is the cross entropy between its label and ``sigmoid(beta (margin - reference))``: of a click that of the
    answer, of a preference that of DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    Attributes:
        prompts: those of an example one after the other.
        labels: in [0, 1], shape (examples,).
        references: margins of the reference, shape (examples,); 0 for clicks.
        beta: weight of the margins.
        users: whose each example is, shape (examples,); None where nothing asks.
    """

    prompts: PromptSet
    labels: np.ndarray
    references: np.ndarray
    beta: float = 1.0
    users: np.ndarray | None = None

    @property
    def prompts_each(self) -> int:
        """Prompts per example."""
        return len(self.prompts.labels) // len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, its prompts padded to the longer one: shape (examples,)."""
        return self.prompts.lengths.reshape(len(self.labels), -1).max(axis=1) * self.prompts_each

    def places(self, examples: np.ndarray) -> np.ndarray:
        """Places of the prompts of some examples, shape (n, prompts_each)."""
        return examples[:, None] * self.prompts_each + np.arange(self.prompts_each)

    def batch(self, examples: np.ndarray, device: torch.device) -> PromptBatch:
        """The prompts of some examples, padded."""
        return self.prompts.batch(self.places(examples).ravel(), device)

    def losses(self, logits: Tensor, examples: np.ndarray) -> Tensor:
        """Losses of some examples by the LLM's logits of their prompts, shape (n,)."""
        first, *second = logits.view(len(examples), -1).unbind(1)
        margins = first - second[0] if second else first
        labels, references = (torch.from_numpy(each[examples]).to(logits) for each in (self.labels, self.references))
        return F.binary_cross_entropy_with_logits(self.beta * (margins - references), labels, reduction="none")


def clicks(prompts: PromptSet, users: np.ndarray | None = None) -> Examples:
    """Each prompt with its own label, and its user, shape (prompts,)."""
    return Examples(prompts, prompts.labels, np.zeros(len(prompts.labels)), users=users)


def examples_of(
    model: AnswerModel,
    few_shot: PromptSet,
    questions: pl.DataFrame,
    config: ObjectiveConfig,
    tokens_per_batch: int,
    reference_logits: Sequence[pl.DataFrame] = (),
) -> Examples:
    """What the objective makes of the few-shot rows: clicks, or the pairs of `pair_rows` beside the references.

    Args:
        model: a base LLM with a fresh adapter, which does not change what it says.
        few_shot: prompts of the rows, with gate inputs.
        questions: the rows, in the same order.
        config: settings.
        tokens_per_batch: most tokens in a batch, padding included.
        reference_logits: row and logit of each reference that is another variant, in the order of the references.

    Raises:
        MismatchError: a reference has no logit of a row.
        ValueError: no two rows make a pair.
    """
    users = questions["user_index"].to_numpy()
    if config.kind == "click":
        return clicks(few_shot, users)
    pairs = pair_rows(questions, config.max_days_apart)
    if not len(pairs):
        raise ValueError(
            f"Preferences are pairs of a liked and a not liked row of one user within {config.max_days_apart:g} days, "
            f"but the {questions.height} few-shot rows of {questions['user_index'].n_unique()} users have none: raise "
            "training.objective.max_days_apart, or draw more of them by history.prompt_rows.few_shot."
        )
    logger.info("%d pairs of %d few-shot rows", len(pairs), questions.height)
    prompts, of_variants = few_shot.take(pairs.ravel()), iter(reference_logits)
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

    first, *second = (margins_of(reference) for reference in config.references)
    joint = joint_margins(first, second[0], config.reference_clip) if second else first
    return Examples(prompts, np.ones(len(pairs)), joint, config.beta, users[pairs[:, 0]])


def _logits_of_rows(scored: pl.DataFrame, rows: np.ndarray, reference: str) -> np.ndarray:
    wanted = pl.DataFrame({"row": rows}, schema={"row": scored.schema["row"]})
    refusal = f"The reference {reference} has no logit for {{}} few-shot rows {{}}: its logits are of a different run."
    return join_all(wanted, scored, ["row"], refusal, f"{reference}.few_shot_logits")["logit"].to_numpy()


def pair_rows(questions: pl.DataFrame, max_days: float) -> np.ndarray:
    """Places of a liked and a not liked row of one user, shape (pairs, 2), each with the other kind's nearest in time.

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


def joint_margins(first: np.ndarray, second: np.ndarray, clip: float) -> np.ndarray:
    """Margins of two references together (MRPO, Le et al. 2024, arXiv 2405.16388, sections 3.2 to 3.4).

    ``log p_ref = log p1 + log p2 - log(a p1 + (1 - a) p2)`` for the liked item and for the other one, where ``p`` is
    the sigmoid of a reference's margin, ``a = |d1| / (|d1| + |d2|)`` with the margins ``d``, and ``p1`` is clipped to
    within ``p2 (1 ± clip)``.

    Args:
        first: margins ``d1``, shape (pairs,).
        second: margins ``d2`` of the reference that the first is kept near, shape (pairs,).
        clip: how far the first one's probabilities may be from the second one's, as a share of these.

    Returns:
        ``log p_ref`` of the liked item less that of the other one, shape (pairs,).

    Examples:
        >>> joint_margins(np.array([2.0, 2.0]), np.array([2.0, -1.0]), clip=0).round(9)
        array([ 2., -1.])
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    total = np.abs(first) + np.abs(second)
    share = np.divide(np.abs(first), total, out=np.full_like(total, 0.5), where=total > 0)

    def log_reference(sign: int) -> np.ndarray:
        p2 = expit(sign * second)
        p1 = np.clip(expit(sign * first), p2 * (1 - clip), p2 * (1 + clip))
        return np.log(p1) + np.log(p2) - np.log(share * p1 + (1 - share) * p2)

    return log_reference(1) - log_reference(-1)
