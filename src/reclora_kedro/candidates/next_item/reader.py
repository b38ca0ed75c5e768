"""Scores of a retriever at moments of users, for the whole catalogue or for pairs, and hard negatives by them."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from kedro_provenance.errors import MismatchError
from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.devices import choose_device
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import recent_events
from reclora_kedro.history.sequences import Sequences, places_of
from reclora_kedro.layers import last_event

SCORES_AT_ONCE = 2**22
LOWEST_SCORE = float(np.finfo(np.float32).min)
"""Score of an item that a retriever cannot score, as it has neither training events nor a text that is read."""


class RetrieverReader:
    """Reads histories of a log with a frozen retriever, which is of the same items, on `retriever.config.device`."""

    @torch.inference_mode()
    def __init__(self, retriever: Retriever, log: InteractionLog) -> None:
        if log.items.height != retriever.sizes.items:
            known = f"the retriever knows {retriever.sizes.items}: they stem from different runs."
            raise MismatchError(f"The log has {log.items.height} items, but {known}", "log", "retriever")
        self._device = choose_device(retriever.config.device)
        self._retriever, self.events = retriever.to(self._device).eval(), log.sequences
        self._vectors = retriever.item_vectors(torch.arange(retriever.sizes.items, device=self._device))
        self._unknown = ~retriever.scored

    def with_events(self, events: Sequences) -> Self:
        """Return a reader of histories among other events of the same items."""
        reader = copy(self)
        reader.events = events
        return reader

    @torch.inference_mode()
    def blocks(self, moments: pl.DataFrame, until: np.ndarray | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield scores of all items, a block of moments at a time.

        A user without events gets the popularity in the training split; items that cannot be scored come last.

        Args:
            moments: frame with the columns of `MOMENT`.
            until: flat event index per moment before which the user's items score minus infinity; None for no
                exclusion.

        Yields:
            Places of a block among the moments, and scores, float32 on the device, shape (places, items).
        """
        step = max(1, SCORES_AT_ONCE // len(self._vectors))
        for start in range(0, moments.height, step):
            rows = slice(start, min(start + step, moments.height))
            states, has_events = self.states(moments[rows])
            scores = states @ self._vectors.T
            scores.masked_fill_(self._unknown, LOWEST_SCORE)
            scores[~has_events] = self._retriever.events.float()
            if until is not None:
                starts, ends = self.events.starts[moments["user_index"][rows].to_numpy()], until[rows]
                row, event = np.repeat(np.arange(len(ends)), ends - starts), places_of(starts, ends)
                scores[torch.from_numpy(row), torch.from_numpy(self.events.item_index[event])] = -torch.inf
            yield rows, scores

    @torch.inference_mode()
    def scores_of(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the scores of items at rows of the moments, as in `blocks`, without those of others: (pairs,)."""
        states, has_events = self.states(moments)
        rows, items = (torch.from_numpy(each.astype(np.int64)).to(self._device) for each in (row, item))
        scores = torch.einsum("nd,nd->n", states[rows], self._vectors[items]).masked_fill_(
            self._unknown[items], LOWEST_SCORE
        )
        return torch.where(has_events[rows], scores, self._retriever.events[items].float()).cpu().numpy()

    @torch.inference_mode()
    def states(self, moments: pl.DataFrame) -> tuple[Tensor, Tensor]:
        """Return the states at moments, (moments, dim), and whether each has events, without which it is void."""
        events = recent_events(moments, self.events, self._retriever.config.length)
        mask = torch.from_numpy(events >= 0).to(self._device)
        items = torch.from_numpy(self.events.item_index[events.clip(0)]).to(self._device)
        return last_event(self._retriever(self._vectors[items]), mask), mask.any(dim=1)


@torch.inference_mode()
def with_retrieved_negatives(log: InteractionLog, retriever: Retriever, first: int, seed: int) -> InteractionLog:
    """Replace the drawn negatives of the training and validation splits by items that a retriever ranks high.

    Each is drawn from the `first` items with the highest scores for the history that it shares with its like, without
    items that the user takes until the split ends; it stays unchanged if none is left. Rated samples and test samples
    stay.

    Raises:
        ValueError: no negative was drawn, or the log's negatives are impressions without a click.
    """
    random = np.random.default_rng(seed)
    own_item = pl.Series(log.sequences.item_index).gather(log.samples["event"])
    end = pl.col("event").max().over("user_index", "split") + 1
    learned = pl.col("split").is_in(["train", "validation"])
    behind_own = pl.col("event") == pl.col("event").shift()  # impressions come in the order of their items
    drawn = log.samples.with_columns(end=end, behind_own=behind_own)
    drawn = drawn.filter(learned, pl.col("item_index") != own_item, label=0)
    if drawn.is_empty() or not drawn["behind_own"].all():
        raise ValueError(
            f"lens.retrieved_negatives is {first}, but history drew no negatives that could be drawn anew: set "
            "history.negatives.kind to matched or uniform or, for a log of impressions, lens.retrieved_negatives to 0."
        )
    items, numbers = log.samples["item_index"].to_numpy(writable=True), drawn["row"].to_numpy()
    for rows, scores in RetrieverReader(retriever, log).blocks(drawn, drawn["end"].to_numpy()):
        best = scores.topk(min(first, scores.shape[1]))
        left = best.values.isfinite().sum(dim=1).cpu().numpy()
        place = (random.random(len(left)) * left).astype(np.int64)
        chosen = best.indices.cpu().numpy()[np.arange(len(left)), place]
        items[numbers[rows]] = np.where(left > 0, chosen, items[numbers[rows]])
    return replace(log, samples=log.samples.with_columns(item_index=pl.Series(items)))
