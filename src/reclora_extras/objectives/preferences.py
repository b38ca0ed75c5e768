"""Preferences: an adapter learns which of two items a user likes more, beside references (DPO, MRPO)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.evaluation.scores import join_all
from reclora_kedro.finetuning.examples import Examples, Objective, Train
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.parameters import NonNegative, Positive

UNTRAINED, LENS = "untrained", "lens"
"""References that need no other variant: the LLM without an adapter, and the lens."""
SECONDS_PER_DAY = 86_400

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pairs(Examples):
    """Prompts two by two, and how much more the first item of each pair is liked than the second.

    The margin of a pair is the logit of its first prompt less that of the second one. Its loss is the cross entropy
    between its label and ``sigmoid(beta (margin - reference))`` (DPO, Rafailov et al. 2023, arXiv 2305.18290,
    equation 7).

    Attributes:
        labels: in [0, 1], shape (pairs,); 1 where the first item is liked more.
        references: margins of the reference, shape (pairs,).
        beta: weight of the margins.
    """

    labels: np.ndarray
    references: np.ndarray
    beta: float = 1.0
    prompts_each: ClassVar[int] = 2

    def losses(self, logits: Tensor, examples: np.ndarray) -> Tensor:
        """See `Examples.losses`."""
        first, second = logits.view(len(examples), 2).unbind(1)
        labels, references = (torch.from_numpy(each[examples]).to(logits) for each in (self.labels, self.references))
        margins = first - second
        return F.binary_cross_entropy_with_logits(self.beta * (margins - references), labels, reduction="none")


class Preference(Objective):
    """Pairs of a liked and a not liked few-shot row of one user, see `pair_rows`, held against references."""

    references: list[str] = Field(default_factory=lambda: [UNTRAINED], min_length=1, max_length=2)
    reference_clip: NonNegative = 0.1
    beta: Positive = 1.0
    max_days_apart: NonNegative = 30.0

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        if len({*self.references}) < len(self.references):
            raise ValueError(f"references names {self.references[0]} twice: name another one, or this one once")
        return self

    @classmethod
    def inputs(cls, variant: str, names: Any) -> Mapping[str, Any]:
        """The logits that other variants give the few-shot rows, in the order of the references."""
        from reclora_extras.objectives.pipeline import other_references, reference_pipeline

        return {
            f"{name}.few_shot_logits": reference_pipeline(name, names.variants[name])
            for name in other_references(names)[variant]
        }

    def fine_tune(
        self,
        train: Train,
        model: AnswerModel,
        few_shot: PromptSet,
        questions: pl.DataFrame,
        tokens_per_batch: int,
        checkpoints: CheckpointStore | None,
        *inputs: Any,
    ) -> pl.DataFrame:
        """See `Objective.fine_tune`; the inputs are the row and logit of each reference that is another variant."""
        return train(self.pairs(model, few_shot, questions, tokens_per_batch, *inputs), checkpoints)

    def pairs(
        self,
        model: AnswerModel,
        few_shot: PromptSet,
        questions: pl.DataFrame,
        tokens_per_batch: int,
        *reference_logits: pl.DataFrame,
    ) -> Pairs:
        """Pair the few-shot rows, and hold them against the references.

        For arguments see `Objective.fine_tune`.

        Raises:
            MismatchError: a reference has no logit of a row.
            ValueError: no two rows make a pair.
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

        first, *second = (margins_of(reference) for reference in self.references)
        joint = joint_margins(first, second[0], self.reference_clip) if second else first
        first_users = users.to_numpy()[places[:, 0]]
        return Pairs(prompts, first_users, labels=np.ones(len(places)), references=joint, beta=self.beta)


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
