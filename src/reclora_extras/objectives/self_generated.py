"""Self-generated preferences (SPA): an adapter learns from pairs of its own responses, which it labels itself."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_extras.objectives.preferences import Pairs
from reclora_extras.objectives.unlabelled import CANDIDATES, UNLABELLED, of_one_history
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.examples import AdapterTask, Objective, Train
from reclora_kedro.history.questions import PromptRowsConfig
from reclora_kedro.lens.states import gate_inputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet, prompt_set
from reclora_kedro.optimization import assign, copy_of
from reclora_kedro.parameters import CountOrZero
from reclora_kedro.progress import Progress

BETA, EXTRAPOLATION = 0.1, 0.5
"""Weight of the margins, and how far beyond the policy labels are doubted in the first round: the paper's."""
DOUBTED_SHARE = 0.1
"""Share of the labels that are doubted, the least confident ones."""
SMOOTHING = 0.1
"""Probability that a doubted label is wrong."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Titles:
    """Prompts that end with a title each, after a history.

    Attributes:
        starts: number of tokens before each title, shape (prompts,).
    """

    prompts: PromptSet
    starts: np.ndarray

    def take(self, places: np.ndarray) -> "Titles":
        """Return the titles at some places."""
        return Titles(self.prompts.take(places), self.starts[places])


def with_titles(prompts: PromptSet, per_moment: int) -> Titles:
    """Find the titles of prompts, which are grouped by moment, `per_moment` each.

    A title begins where the prompts of its moment begin to differ, and ends with the prompt. So a template's text after
    the title counts for each of them, and common first words of all titles of a moment do not.

    Examples:
        >>> with_titles(PromptSet(np.arange(2), [[5, 6, 7], [5, 6, 8, 9]], np.zeros(2)), per_moment=2).starts
        array([2, 2])
    """
    starts = []
    for first in range(0, len(prompts.token_ids), per_moment):
        of_moment = prompts.token_ids[first : first + per_moment]
        differs = (len({*tokens}) > 1 for tokens in zip(*of_moment, strict=False))
        shared = next((place for place, differ in enumerate(differs) if differ), min(map(len, of_moment)) - 1)
        starts += [max(1, shared)] * per_moment  # the first token of all has nothing to be likely after
    return Titles(prompts, np.array(starts))


def title_states(model: AnswerModel, batch: PromptBatch, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the LLM's final states before the titles' tokens, these tokens, and their prompts.

    `starts` are the tokens before each title, (batch,). States are (tokens, hidden), token ids (tokens,), and each has
    the place of its prompt in the batch.
    """
    with model.gate_context(batch.gate_inputs):
        states = model.llm.last_hidden_states(batch.token_ids)
    places = torch.arange(batch.token_ids.shape[1], device=starts.device)
    prompts, positions = ((places >= starts[:, None] - 1) & (places < batch.last[:, None])).nonzero(as_tuple=True)
    return states[prompts, positions], batch.token_ids[prompts, positions + 1], prompts


def log_likelihoods(logits: Tensor, token_ids: Tensor, prompts: Tensor, count: int) -> Tensor:
    """Return the log probability of each title, the sum over its tokens, shape (count,); see `title_states`."""
    each = logits.log_softmax(1).gather(1, token_ids[:, None])[:, 0]
    return each.new_zeros(count).index_add(0, prompts, each)


@torch.inference_mode()
def score_titles(
    model: AnswerModel, titles: Titles, tokens_per_batch: int, description: str
) -> tuple[np.ndarray, list[Tensor]]:
    """Return the log probability of each title, float64, (prompts,), and the states before its tokens, on the CPU."""
    model.model.eval()
    scores, states, rows = np.zeros(len(titles.starts)), [torch.empty(0)] * len(titles.starts), len(titles.starts)

    def score(places: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
        starts = torch.from_numpy(titles.starts[places]).to(model.device)
        before, token_ids, prompts = title_states(model, titles.prompts.batch(places, model.device), starts)
        logits = model.llm.token_logits(before, slice(None))
        likelihoods = log_likelihoods(logits, token_ids, prompts, len(places)).double().cpu().numpy()
        return likelihoods, list(before.cpu().split(prompts.bincount(minlength=len(places)).tolist()))

    with Progress(description, rows, "rows") as progress:
        for places, (likelihoods, before) in TokenBudget(tokens_per_batch).run(
            np.arange(rows), titles.prompts.lengths, score
        ):
            scores[places] = likelihoods
            for place, each in zip(places, before, strict=True):
                states[place] = each
            progress.update(len(places))
    return scores, states


@dataclass(frozen=True, kw_only=True)
class TitlePairs(Pairs):
    """Two responses to one history each, the preferred one first; the margin is that of their log likelihoods.

    The loss is DPO's, see `Pairs`. Of pairs that the adapter labelled itself, the least confident tenth of a forward
    pass has labels of 0.9 (SPA, Kim et al. 2024, arXiv 2406.04412, section 4.2). Confidence is that of a stronger
    policy, whose logits are extrapolated from the reference's to those of the policy in this very step,
    ``(1 + extrapolation) h_policy - extrapolation h_reference``, token by token: a decoupled detection of noise, as
    these logits are not those that made the label.

    Attributes:
        starts: tokens before each title, shape (prompts,).
        reference_states: final states of the reference that predict each title's tokens; none where labels are given.
        extrapolation: how far beyond the policy.
    """

    starts: np.ndarray
    reference_states: tuple[Tensor, ...] = ()
    extrapolation: float = 0.0

    def likelihoods(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        """Return log likelihoods by the policy and the extrapolated one, (n · 2, 2); see `Examples.losses`."""
        places = self.places(examples).ravel()
        starts = torch.from_numpy(self.starts[places]).to(model.device)
        states, token_ids, prompts = title_states(model, batch, starts)
        logits = model.llm.token_logits(states, slice(None))
        likelihoods = log_likelihoods(logits, token_ids, prompts, len(places))
        if not self.reference_states:
            return torch.stack([likelihoods, likelihoods], dim=1)
        with torch.no_grad():
            of_reference = torch.cat([self.reference_states[place] for place in places]).to(states)
            beyond = torch.lerp(model.llm.token_logits(of_reference, slice(None)), logits, 1 + self.extrapolation)
            extrapolated = log_likelihoods(beyond, token_ids, prompts, len(places))
        return torch.stack([likelihoods, extrapolated], dim=1)

    def losses(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        likelihoods, labels = self.likelihoods(model, batch, examples), self.labels[examples].copy()
        if self.reference_states:
            labels[doubted(self._confidence(likelihoods, examples))] = 1 - SMOOTHING
        return self.dpo_losses(likelihoods[:, 0], labels, examples)

    @torch.inference_mode()
    def confidence(self, model: AnswerModel, tokens_per_batch: int) -> np.ndarray:
        """Return how far the extrapolated policy's margin exceeds the reference's, shape (pairs,)."""
        model.model.eval()
        confidence = np.zeros(len(self))

        def margins(examples: np.ndarray) -> np.ndarray:
            return self._confidence(self.likelihoods(model, self.batch(examples, model.device), examples), examples)

        for examples, each in TokenBudget(tokens_per_batch).run(np.arange(len(self)), self.lengths, margins):
            confidence[examples] = each
        return confidence

    def _confidence(self, likelihoods: Tensor, examples: np.ndarray) -> np.ndarray:
        preferred, other = likelihoods[:, 1].detach().double().cpu().numpy().reshape(-1, 2).T
        return preferred - other - self.references[examples]


def doubted(confidence: np.ndarray) -> np.ndarray:
    """Return places of the least confident labels, `DOUBTED_SHARE` of them, by their `TitlePairs.confidence`."""
    return np.argsort(confidence, kind="stable")[: round(DOUBTED_SHARE * len(confidence))]


class SelfGenerated(Objective):
    """Pairs of the adapter's own responses, next titles of histories (SPA, Kim et al. 2024, arXiv 2406.04412).

    The adapter learns from a few labelled pairs first. Then each round takes its share of the other moments. The
    policy, as the round found it, responds to each of them with two of the candidates, drawn by the likelihoods that
    it gives them; prefers the one of the greater implicit reward, ``log policy - log untrained``; and learns these
    preferences by DPO with itself, as the round found it, as the reference. See `TitlePairs` for what becomes of
    labels in doubt; their extrapolation halves with each round, as the paper's does (1/2, 1/4, 1/8). The adapter is
    left at the best validation AUC of all rounds.
    """

    inputs_from: ClassVar[str] = "reclora_extras.objectives.pipeline:unlabelled_moments"
    trains_in_rounds: ClassVar[bool] = True

    seed_share: ClassVar[float] = 0.05  # of the pairs, whose labels are given: the paper has 3.3%

    rounds: CountOrZero = 2

    def require_questions(self, prompt_rows: PromptRowsConfig) -> None:
        """Raise ValueError for too few moments for a labelled pair, and one for each round."""
        self.require_moments(prompt_rows.unlabelled)

    def require_moments(self, moments: int) -> None:
        seeds = self.labelled_pairs(moments)
        if not seeds or moments - seeds < self.rounds:
            raise ValueError(
                f"training.objective is self_generated, in {self.rounds} rounds, but of {moments} pairs, only {seeds} "
                "have labels: raise history.prompt_rows.unlabelled, so that there is a label, and a pair "
                "without one for each round."
            )

    def labelled_pairs(self, moments: int) -> int:
        """Return the number of labelled pairs."""
        return round(self.seed_share * moments)

    def fine_tune(self, training: AdapterTask) -> pl.DataFrame:
        """See `Objective.fine_tune`; the inputs are prompts and lens states of the moments' candidates.

        The log is that of `fine_tune_in_rounds`.
        """
        prompts, states = training.inputs
        assert training.few_shot.gate_inputs is not None
        alike = of_one_history(prompts)
        if left_out := (prompts.height - alike.height) // CANDIDATES:
            logger.warning(
                "%d of %d unlabelled moments are left out: prompt.max_tokens, which is too small for them, leaves "
                "candidates of theirs different histories.", left_out, prompts.height // CANDIDATES
            )  # fmt: skip
        self.require_moments(alike.height // CANDIDATES)
        candidates = prompt_set(alike, UNLABELLED, gate_inputs(states, training.few_shot.gate_inputs.name))
        titles = with_titles(candidates, CANDIDATES)
        return fine_tune_in_rounds(
            training.train,
            training.model,
            titles,
            self,
            training.tokens_per_batch,
            training.checkpoints,
            seed=training.seed,
        )


def fine_tune_in_rounds(
    train: Train,
    model: AnswerModel,
    candidates: Titles,
    config: SelfGenerated,
    tokens_per_batch: int,
    checkpoints: CheckpointStore | None = None,
    *,
    seed: int,
) -> pl.DataFrame:
    """Train on labelled pairs, then in rounds on pairs that the model makes and labels itself.

    Candidates are `CANDIDATES` titles per moment, one moment after the other. Their labels are what the log says later
    on, NaN for nothing. Labelled pairs have theirs from it; of the others, it only measures how many of the model's own
    labels it confirms. Checkpoints have a folder per round; the seed is that of the labelled pairs and of the
    responses.

    It returns the training logs, see `train_adapter`, one after the other, with the round (0 for the labelled pairs)
    and, over all own labels so far, see `detection`: decided, confirmed, wrong_doubted and right_doubted. ValueError is
    raised if the log decides too few pairs for the labels that are to be given.
    """
    weights = {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}
    random, later = np.random.default_rng(seed), candidates.prompts.labels
    untrained, _ = score_titles(model, candidates, tokens_per_batch, "score candidates untrained")
    places = np.arange(len(untrained)).reshape(-1, CANDIDATES)
    labelled = decided_pairs(later.reshape(-1, CANDIDATES), config.labelled_pairs(len(places)), random)
    others = random.permutation(np.setdiff1d(np.arange(len(places)), labelled[:, 0] // CANDIDATES))
    shares = np.array_split(others, config.rounds) if config.rounds else []

    def pairs_of(
        chosen: np.ndarray, likelihoods: np.ndarray, states: Mapping[int, Tensor], extrapolation: float = 0.0
    ) -> TitlePairs:
        titles = candidates.take(chosen.ravel())
        return TitlePairs(
            titles.prompts,
            labels=np.ones(len(chosen)),
            references=np.subtract(*likelihoods[chosen].T),
            beta=BETA,
            starts=titles.starts,
            reference_states=tuple(states[place] for place in chosen.ravel()) if states else (),
            extrapolation=extrapolation,
        )

    examples, logs, judged = pairs_of(labelled, untrained, {}), list[pl.DataFrame](), list[np.ndarray]()
    best_auc, rows, seconds = -1.0, 0, 0.0
    for number in range(config.rounds + 1):
        if number:
            moments, likelihoods = places[shares[number - 1]], np.full(places.size, np.nan)
            scored = moments.ravel()
            likelihoods[scored], states = score_titles(
                model, candidates.take(scored), tokens_per_batch, "score candidates"
            )
            chosen = preferred_first(moments, likelihoods, untrained, random)
            extrapolation = EXTRAPOLATION / 2 ** (number - 1)
            examples = pairs_of(chosen, likelihoods, dict(zip(scored, states, strict=True)), extrapolation)
        store = checkpoints and CheckpointStore(
            f"{checkpoints.folder}/round-{number}", checkpoints.training, checkpoints.options
        )
        log = train(examples, store)
        if number:
            in_doubt = np.isin(np.arange(len(chosen)), doubted(examples.confidence(model, tokens_per_batch)))
            judged.append(np.column_stack([later[chosen], in_doubt]))
        measured = {"round": number} | detection(np.concatenate([np.empty((0, 3)), *judged]))
        logger.info("round %d: of the labels so far, %s", number, measured)
        columns = [pl.lit(value, pl.Float64).alias(name) for name, value in measured.items()]
        logs.append(log.with_columns(pl.col("rows") + rows, pl.col("seconds") + seconds, *columns))
        rows, seconds = logs[-1]["rows"][-1], logs[-1]["seconds"][-1]
        auc = log["validation_auc"].fill_null(0).fill_nan(0).to_numpy().max()
        if auc > best_auc:
            best_auc, best = auc, copy_of(weights)
    assign(weights, best)
    return pl.concat(logs)


def decided_pairs(later: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw moments with a candidate that is liked later on, and one that is not; return both places.

    `later` is 1 for candidates that are liked later on, else 0, or NaN where the log says nothing, (moments,
    candidates). The places, in the flattened array, are those of the first candidate that is liked and of the first one
    that is not, (count, 2). ValueError is raised for fewer such moments.

    Examples:
        >>> later = np.array([[np.nan, 1, 0], [0, 0, np.nan]])
        >>> decided_pairs(later, 1, np.random.default_rng(0))
        array([[1, 0]])
    """
    liked = later == 1
    decided = np.flatnonzero(liked.any(axis=1) & ~liked.all(axis=1))
    if len(decided) < count:
        raise ValueError(
            f"training.objective takes the labels of {count} of {len(later)} pairs, but of {len(decided)} alone the "
            "training split shows which title is liked: raise history.prompt_rows.unlabelled."
        )
    drawn = np.sort(random.permutation(decided)[:count])
    first = np.stack([liked[drawn].argmax(axis=1), (~liked[drawn]).argmax(axis=1)], axis=1)
    return drawn[:, None] * later.shape[1] + first


def preferred_first(
    moments: np.ndarray, likelihoods: np.ndarray, untrained: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Draw two responses to each moment by the policy, and put the preferred one first (SPA, equations 4 and 5).

    Responses are drawn without replacement, with the probabilities that the policy gives the moment's candidates (the
    greatest two of their log likelihoods with Gumbel noise). The implicit reward of a response is ``log policy - log
    untrained``. `moments` are places of the candidates, (moments, candidates), and the result places of two of each,
    (moments, 2); log likelihoods of the candidates, by the policy and by the LLM as it came, are by these places.
    """
    noisy = likelihoods[moments] + random.gumbel(size=moments.shape)
    responses = np.take_along_axis(moments, np.argsort(-noisy, axis=1)[:, :2], axis=1)
    rewards = (likelihoods - untrained)[responses]
    return np.take_along_axis(responses, np.argsort(-rewards, axis=1, kind="stable"), axis=1)


def detection(judged: np.ndarray) -> dict[str, float | None]:
    """Count own labels that the log decides, and the shares of them that are confirmed and in doubt.

    `judged` has a row per label, (labels, 3): of the preferred title and of the other one, 1 where it is liked later
    on, else 0, or NaN where the log says nothing; and 1 where the label is in doubt. wrong_doubted and right_doubted
    are the shares in doubt of the labels that the log does not confirm, and of those that it does; None where there are
    none.

    Examples:
        >>> detection(np.array([[1, np.nan, 0], [0, 1, 1], [1, 1, 0], [1, 0, 1]]))
        {'decided': 3, 'confirmed': 0.6666666666666666, 'wrong_doubted': 1.0, 'right_doubted': 0.5}
    """
    liked, in_doubt = judged[:, :2] == 1, judged[:, 2] == 1
    decided = liked[:, 0] != liked[:, 1]
    right, wrong = decided & liked[:, 0], decided & liked[:, 1]

    def share(of: np.ndarray, among: np.ndarray) -> float | None:
        return float(of[among].mean()) if among.any() else None

    return {
        "decided": int(decided.sum()),
        "confirmed": share(right, decided),
        "wrong_doubted": share(in_doubt, wrong),
        "right_doubted": share(in_doubt, right),
    }
