"""Scoring of candidates whose prompts share a prefix, which the LLM computes once."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from os.path import commonprefix
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.attention import attends_to_all_before
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.progress import Progress

ATTENTION = "reclora_shared_prefix"
"""Name of `shared_prefix_attention` in transformers' registry of attention functions."""

LEAST_SAVING = 0.25  # minimum share of a group's tokens that a shared prefix must save
POSITIONS_PER_TOKEN = 256  # attended positions that need the memory of one token of a batch; fewer than in most LLMs


class SharedPrefix:
    """Keys and values of a prefix by layer, and attention of the suffixes to them.

    The first forward pass is the prefix, whose keys and values are kept. After `expect`, forward passes are suffixes
    packed into one row without padding; only attention tells them apart.
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._places: Tensor | None = None

    def expect(self, suffix_lengths: Tensor) -> None:
        """Prepare for a forward pass of packed suffixes of these lengths, shape (suffixes,)."""
        position = torch.arange(int(suffix_lengths.max()), device=suffix_lengths.device)
        self._real = position < suffix_lengths[:, None]
        start = suffix_lengths.cumsum(0) - suffix_lengths
        self._places = torch.where(self._real, start[:, None] + position, 0)
        self._unseen = position[:, None] < position

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Compute one layer's attention: (1, heads, tokens, dim) to (1, tokens, heads, dim)."""
        if self._places is None:
            self._layers[layer] = key, value
            grouped = query.shape[1] != key.shape[1]
            states = F.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
            )
            return states.transpose(1, 2)
        prefix_keys, prefix_values = (part[0] for part in self._layers[layer])
        kv_heads, group = key.shape[1], query.shape[1] // key.shape[1]
        queries, keys, values = (self._padded(part[0], kv_heads) for part in (query, key, value))
        queries = queries * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        # The prefix is shared: all suffixes' queries form one matrix. Each suffix attends to itself separately.
        prefix_scores = (queries.flatten(1, 2) @ prefix_keys.mT).unflatten(1, queries.shape[1:3])
        own_scores = (queries @ keys.mT).masked_fill(self._unseen.repeat(group, 1), -torch.inf)
        weights = torch.cat([prefix_scores, own_scores], dim=-1).softmax(-1)
        on_prefix, on_own = weights.split([prefix_scores.shape[-1], own_scores.shape[-1]], dim=-1)
        states = on_own @ values + (on_prefix.flatten(1, 2) @ prefix_values).unflatten(1, queries.shape[1:3])
        by_head = states.unflatten(2, (group, -1)).permute(1, 3, 0, 2, 4).flatten(2, 3)
        return by_head[self._real].unsqueeze(0)

    def _padded(self, rows: Tensor, kv_heads: int) -> Tensor:
        """Pad packed tokens: (heads, tokens, dim) to (key-value heads, suffixes, group · longest, dim).

        The query heads of a key-value head are stacked as further queries, so that keys are not copied.
        """
        return rows[:, self._places].unflatten(0, (kv_heads, -1)).transpose(1, 2).flatten(2, 3)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared_prefix: SharedPrefix,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Adapt `SharedPrefix.attend` to transformers' attention interface; the mask is taken to be causal."""
    return shared_prefix.attend(module.layer_idx, query, key, value, scaling), None


@torch.inference_mode()
def score_candidates(
    model: AnswerModel, prompts: PromptSet, groups: np.ndarray, tokens_per_batch: int, progress: Progress | None = None
) -> np.ndarray:
    """Return what `AnswerModel.scores` returns, faster where prompts share a prefix: float64, shape (prompts,).

    The prompts of a group, such as one user's candidates, share their longest common prefix if their gate inputs are
    equal, it saves enough tokens, and the base LLM is one of `PLAIN_MODELS`; other prompts are scored on their own.
    `groups` has the group of each prompt, shape (prompts,).
    """
    scores = np.empty(len(prompts.lengths))
    batches: Iterable[tuple[np.ndarray, np.ndarray]]
    if model.engine.spreads:
        _, place = np.unique(groups, return_inverse=True)
        parts = [np.flatnonzero(np.isin(place, part)) for part in model.engine.shards(int(place.max()) + 1)]
        shards = [(prompts.take(rows), groups[rows]) for rows in parts]
        score = partial(score_candidates, tokens_per_batch=tokens_per_batch)
        batches = zip(parts, model.on_workers(score, shards, "rank"), strict=True)
    else:
        batches = (
            (rows, torch.sigmoid(logits.double()).cpu().numpy())
            for rows, logits in _scored_batches(model, prompts, groups, TokenBudget(tokens_per_batch))
        )
    for rows, probabilities in batches:
        scores[rows] = probabilities
        if progress is not None:
            progress.update(len(rows))
    return scores


def common_prefix(token_ids: list[list[int]]) -> int:
    """Return the length of the longest common prefix that leaves at least one token of each prompt.

    Examples:
        >>> common_prefix([[5, 6, 7, 8], [5, 6, 9]])
        2
        >>> common_prefix([[5, 6], [5, 6]])
        1
    """
    return min(len(commonprefix(token_ids)), min(map(len, token_ids)) - 1)  # noqa: RUF071 - of lists, not of paths


def _scored_batches(
    model: AnswerModel, prompts: PromptSet, groups: np.ndarray, budget: TokenBudget
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield rows and logits batch by batch; every row once."""
    can_share = attends_to_all_before(model.model, prompts.lengths.max(initial=0))
    ungrouped = []
    _, place = np.unique(groups, return_inverse=True)
    by_group = np.argsort(place, kind="stable")
    for rows in np.split(by_group, np.flatnonzero(np.diff(place[by_group])) + 1):
        prefix = common_prefix([prompts.token_ids[row] for row in rows]) if can_share and len(rows) > 1 else 0
        saved = prefix * (len(rows) - 1)
        if saved and saved >= LEAST_SAVING * prompts.lengths[rows].sum() and _share_gates(model, prompts, rows):
            yield from _shared_batches(model, prompts, rows, prefix, budget)
        else:
            ungrouped.append(rows)
    rest = np.concatenate(ungrouped) if ungrouped else np.array([], dtype=int)
    yield from budget.run(rest, prompts.lengths, lambda rows: model.logits(prompts.batch(rows, model.device)))


def _share_gates(model: AnswerModel, prompts: PromptSet, rows: np.ndarray) -> bool:
    inputs = prompts.gate_inputs
    return not model.has_gates or inputs is None or bool((inputs.values[rows] == inputs.values[rows[0]]).all())


def _shared_batches(
    model: AnswerModel, prompts: PromptSet, rows: np.ndarray, prefix: int, budget: TokenBudget
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Compute a group's prefix once, then yield rows and logits of its suffixes in batches."""
    shared, first = SharedPrefix(), prompts.batch(rows[:1], model.device)

    def suffix_logits(batch: np.ndarray) -> Tensor:
        suffixes = [prompts.token_ids[row][prefix:] for row in batch]
        lengths = torch.tensor([len(suffix) for suffix in suffixes], device=model.device)
        shared.expect(lengths)
        states = _packed_states(model, shared, suffixes, start=prefix)
        logits = model.llm_logits_of(states[lengths.cumsum(0) - 1])
        return model.blended(logits, prompts.batch(batch, model.device).gate_inputs)

    with shared_prefix_attention_in(model), model.gate_context(first.gate_inputs):
        _packed_states(model, shared, [prompts.token_ids[rows[0]][:prefix]], start=0)
        own = prompts.lengths - prefix
        yield from budget.run(rows, own + own * prompts.lengths // POSITIONS_PER_TOKEN, suffix_logits)


@contextmanager
def shared_prefix_attention_in(model: AnswerModel) -> Iterator[None]:
    """Let the LLM attend by `shared_prefix_attention` inside the context."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, shared_prefix_attention)
    decoder = model.model.get_decoder()
    previous = decoder.config._attn_implementation
    decoder.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        decoder.set_attn_implementation(previous)


def _packed_states(model: AnswerModel, shared: SharedPrefix, parts: list[list[int]], start: int) -> Tensor:
    """Return the final hidden states of parts packed into one row, each from position ``start``: (tokens, hidden)."""
    positions = [start + place for part in parts for place in range(len(part))]
    output = model.model.get_decoder()(
        input_ids=torch.tensor([[token for part in parts for token in part]], device=model.device),
        position_ids=torch.tensor([positions], device=model.device),
        use_cache=False,
        shared_prefix=shared,
    )
    return output.last_hidden_state[0]
