"""The K past events of a sample: the most similar to its target item, or the most recent."""

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import polars as pl
from threadpoolctl import ThreadpoolController

from kedro_provenance.parameters import Block
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.parameters import Count

CELLS_PER_BLOCK = 2**18  # similarities held at once: 2 MiB, so that the passes over them stay in a core's cache
SIMILARITY_STEPS = 2**30  # see _top_positions
UNSEEN = np.iinfo(np.int64).min


class WindowConfig(Block):
    """Kind and number of a sample's past events."""

    kind: Literal["retrieved", "recent"]
    k: Count


def recent_events(samples: pl.DataFrame, sequences: Sequences, k: int) -> np.ndarray:
    """Return the user's last k events before each sample, see `InteractionLog.histories`."""
    end = samples["history_end"].to_numpy().astype(np.int32)
    start = np.maximum(sequences.starts[samples["user_index"].to_numpy()], end - k).astype(np.int32)
    events = start[:, None] + np.arange(max(1, (end - start).max(initial=0)), dtype=np.int32)
    np.putmask(events, events >= end[:, None], -1)
    return events


def similar_events(samples: pl.DataFrame, sequences: Sequences, item_embeddings: np.ndarray, k: int) -> np.ndarray:
    """Return the user's k events before each sample whose items are most similar to the target (RecLoRA, section 3.2).

    Similarity is the cosine of the two items' embeddings, 0 if one is zero; among equals the more recent event wins. An
    earlier event of the target item itself counts, with cosine 1. See `InteractionLog.histories` for the result.
    """
    history = recent_events(samples, sequences, k)
    users, target, end = (samples[name].to_numpy() for name in ("user_index", "item_index", "history_end"))
    longer = np.flatnonzero(end - sequences.starts[users] > k)  # of the others, there is nothing to choose
    if len(longer) == 0:
        return history
    # Products this small take a fraction of the time on one thread: two wait for each other on a busy machine.
    with _thread_pools().limit(limits=1, user_api="blas"):
        for user, places in blocks_of_one_user(users[longer], sequences, CELLS_PER_BLOCK):
            rows, start = longer[places], sequences.starts[user]
            past_items = sequences.item_index[start : end[rows].max()]
            targets, past = unit_vectors(item_embeddings[target[rows]]), unit_vectors(item_embeddings[past_items])
            history[rows] = start + _top_positions(targets @ past.T, end[rows] - start, k)
    return history


@cache
def _thread_pools() -> ThreadpoolController:
    """Return the thread pools of this process; the lookup takes 10 ms."""
    return ThreadpoolController()


def unit_vectors(embeddings: np.ndarray) -> np.ndarray:
    """Scale embeddings to unit length, float64; zero vectors stay zero."""
    embeddings = embeddings.astype(np.float64)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, norms, out=np.zeros_like(embeddings), where=norms > 0)


def blocks_of_one_user(user_index: np.ndarray, sequences: Sequences, cells: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield users with rows in time order, in blocks of at most `cells` rows times events of the user."""
    if len(user_index) == 0:
        return
    by_user = np.argsort(user_index, kind="stable")
    users, first = np.unique(user_index[by_user], return_index=True)
    for user, rows in zip(users, np.split(by_user, first[1:]), strict=True):
        step = max(1, cells // int(sequences.ends[user] - sequences.starts[user]))
        for begin in range(0, len(rows), step):
            yield user, rows[begin : begin + step]


def _top_positions(similarity: np.ndarray, lengths: np.ndarray, k: int) -> np.ndarray:
    """Return positions of the k greatest similarities among the first `lengths` > k of each row, ascending: (rows, k).

    Rank and position share one integer key, so that ties fall to the later position and one partition finds the top.
    Rounding to steps of 2^-30 keeps ties exact, since a matrix product may sum equal columns in another order.
    """
    place = np.arange(similarity.shape[1])
    similarity *= SIMILARITY_STEPS
    keys = np.rint(similarity, out=similarity).astype(np.int64)
    keys <<= 32
    keys |= place
    if lengths.min() < len(place):
        keys[place >= lengths[:, None]] = UNSEEN
    return np.sort(np.partition(keys, len(place) - k, axis=1)[:, -k:] & 0xFFFFFFFF, axis=1)
