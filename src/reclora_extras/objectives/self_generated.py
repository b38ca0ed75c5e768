"""Self-generated preferences (SPA): an adapter learns further from pairs that it labels itself."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from reclora_extras.objectives.preferences import Pairs, Preference
from reclora_extras.objectives.unlabelled import UNLABELLED
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.examples import Train
from reclora_kedro.finetuning.training import assign, copy_of
from reclora_kedro.histories.questions import PromptRowsConfig
from reclora_kedro.lens.states import gate_inputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet, prompt_set
from reclora_kedro.parameters import Count, NonNegative

if TYPE_CHECKING:
    from reclora_kedro.finetuning.variants import VariantConfig

SMOOTHED_SHARE = 0.1
"""Share of a round's labels that is smoothed, the least certain ones."""
SMOOTHING = 0.1
"""Distance of these from 0 or 1."""

logger = logging.getLogger(__name__)


class SelfGenerated(Preference):
    """Labelled pairs, then in rounds unlabelled ones that the adapter labels (SPA, Kim et al. 2024, arXiv 2406.04412).

    Each round takes its share of the unlabelled pairs, labels them, see `self_labels`, and learns from them beside the
    model as the round found it. The adapter is left at the best validation AUC of all rounds.
    """

    rounds: Count = 2
    extrapolation: NonNegative = 0.3

    @classmethod
    def inputs(cls, variant: str, names: Any) -> Mapping[str, Any]:
        """The logits of references, then prompts and lens states of the unlabelled pairs."""
        from reclora_extras.objectives.pipeline import unlabelled_pipeline

        made = unlabelled_pipeline(names)
        prompts = f"{UNLABELLED}.{names.variants[variant]}.prompts"
        return {**super().inputs(variant, names), prompts: made, f"{UNLABELLED}_states": made}

    def require(self, variant: "VariantConfig") -> None:
        """Refuse gradients by which an adapter may be trained once."""
        if reason := variant.training.gradient_maker.trains_once:
            raise ValueError(
                f"training.objective.kind is self_generated, whose rounds train the adapter further, but {reason}: set "
                "kind to preference or click"
            )

    def require_questions(self, prompt_rows: PromptRowsConfig) -> None:
        """Refuse fewer unlabelled pairs than rounds."""
        if prompt_rows.unlabelled < self.rounds:
            raise ValueError(
                f"training.objective is self_generated, in {self.rounds} rounds, but there are "
                f"{prompt_rows.unlabelled} unlabelled pairs: raise history.prompt_rows.unlabelled to at least one pair "
                "per round."
            )

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
        """See `Objective.fine_tune`; the last two inputs are prompts and lens states of the unlabelled pairs.

        The log is that of `fine_tune_in_rounds`.
        """
        *reference_logits, prompts, states = inputs
        assert few_shot.gate_inputs is not None
        unlabelled = prompt_set(prompts, UNLABELLED, gate_inputs(states, few_shot.gate_inputs.name))
        labelled = self.pairs(model, few_shot, questions, tokens_per_batch, *reference_logits)
        return fine_tune_in_rounds(train, model, labelled, unlabelled, self, tokens_per_batch, checkpoints)


def fine_tune_in_rounds(
    train: Train,
    model: AnswerModel,
    labelled: Pairs,
    unlabelled: PromptSet,
    config: SelfGenerated,
    tokens_per_batch: int,
    checkpoints: CheckpointStore | None = None,
) -> pl.DataFrame:
    """Train on labelled pairs, then in rounds on self-labelled ones.

    Args:
        train: trains the model's adapter further.
        model: a base LLM with a fresh adapter.
        labelled: pairs with labels.
        unlabelled: prompts of further pairs, two by two; their labels are what the log says later on, NaN for nothing,
            and only measure how many of the adapter's own it confirms.
        config: number of rounds, and how they label.
        tokens_per_batch: most tokens in a forward pass, padding included.
        checkpoints: where to keep checkpoints, a folder per round; None for nowhere.

    Returns:
        The training logs, see `train_adapter`, one after the other, with the round (0 for the labelled pairs), decided
        (its pairs of which the log shows one item liked, and the other one not) and confirmed (share of these that the
        adapter labelled so).

    """
    weights = {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}
    pairs = np.arange(len(unlabelled.labels)).reshape(-1, 2)
    shares = np.array_split(np.arange(len(pairs)), config.rounds)

    def margins(chosen: np.ndarray) -> np.ndarray:
        model.model.eval()
        prompts = unlabelled.take(pairs[chosen].ravel())
        logits = model.all_llm_logits(prompts, tokens_per_batch, "score unlabelled pairs")
        values = np.full(len(pairs), np.nan)
        values[chosen] = logits[::2] - logits[1::2]
        return values

    untrained = before = margins(np.arange(len(pairs)))
    examples, logs = labelled, list[pl.DataFrame]()
    best_auc, rows, seconds = -1.0, 0, 0.0
    for number in range(config.rounds + 1):
        measured: dict[str, Any] = {"round": number, "decided": None, "confirmed": None}
        if number:
            share, now = shares[number - 1], margins(np.concatenate(shares[number - 1 :]))
            labels = self_labels(now[share], before[share], untrained[share], config.extrapolation)
            prompts = unlabelled.take(pairs[share].ravel())
            examples = Pairs(prompts, labels=labels, references=now[share], beta=config.beta)
            measured |= confirmation(labels, prompts.labels.reshape(-1, 2))
            logger.info(
                "round %d: the log confirms %s of %d labels", number, measured["confirmed"], measured["decided"]
            )
            before = now
        store = checkpoints and CheckpointStore(
            f"{checkpoints.folder}/round-{number}", checkpoints.training, checkpoints.options
        )
        log = train(examples, store)
        columns = [pl.lit(value, pl.Float64).alias(name) for name, value in measured.items()]
        logs.append(log.with_columns(pl.col("rows") + rows, pl.col("seconds") + seconds, *columns))
        rows, seconds = logs[-1]["rows"][-1], logs[-1]["seconds"][-1]
        auc = log["validation_auc"].fill_null(0).fill_nan(0).to_numpy().max()
        if auc > best_auc:
            best_auc, best = auc, copy_of(weights)
    assign(weights, best)
    return pl.concat(logs)


def self_labels(now: np.ndarray, before: np.ndarray, untrained: np.ndarray, extrapolation: float) -> np.ndarray:
    """Whether the first item of each pair is liked more, by the sign of the implicit reward, shape (pairs,).

    The reward is that of a model further on the way from the last round's to the present one: its margin is
    ``(1 + extrapolation) now - extrapolation before``, less that of the untrained LLM (SPA, section 4.2). The tenth
    with the smallest rewards is smoothed.

    Args:
        now: margins of the adapter, shape (pairs,).
        before: those of the adapter as the round before found it.
        untrained: those of the LLM as it came.
        extrapolation: how far to go on, at least 0.

    Examples:
        >>> self_labels(np.array([3.0, -2.0] * 5), np.zeros(10), np.zeros(10), 0.5)
        array([1. , 0.1, 1. , 0. , 1. , 0. , 1. , 0. , 1. , 0. ])
    """
    rewards = (1 + extrapolation) * now - extrapolation * before - untrained
    labels = (rewards > 0).astype(np.float64)
    least_certain = np.argsort(np.abs(rewards), kind="stable")[: round(SMOOTHED_SHARE * len(labels))]
    labels[least_certain] = np.abs(labels[least_certain] - SMOOTHING)
    return labels


def confirmation(labels: np.ndarray, later: np.ndarray) -> dict[str, float | None]:
    """How many pairs the log decides, and which share of these it confirms.

    Args:
        labels: above 0.5 where the first item is liked more, shape (pairs,).
        later: 1 for items that are liked later on; else 0, or NaN where the log says nothing; shape (pairs, 2).

    Examples:
        >>> confirmation(np.array([1.0, 0.9, 0.0]), np.array([[1, np.nan], [0, 1], [1, 1]]))
        {'decided': 2, 'confirmed': 0.5}
    """
    liked = later == 1
    decided = liked[:, 0] != liked[:, 1]
    agrees = (labels > 0.5)[decided] == liked[decided, 0]
    return {"decided": int(decided.sum()), "confirmed": float(agrees.mean()) if len(agrees) else None}
