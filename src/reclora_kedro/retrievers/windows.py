"""Training events as windows of histories, and the likes to validate on."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.questions import MOMENT
from reclora_kedro.histories.sequences import user_of_events
from reclora_kedro.histories.taken_items import TakenItems


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive training events of one user; each event but a user's first is the target of one window."""

    items: np.ndarray  # of the training events, by user, in order of time; int64, shape (events,)
    first: np.ndarray  # place of each window's first event, shape (windows,)
    last: np.ndarray  # place of its last one, which is a target alone, shape (windows,)

    @classmethod
    def from_log(cls, log: InteractionLog, length: int) -> Self:
        """Cut the training events into windows of at most `length` events before a target.

        Raises:
            ValueError: no user has two training events.
        """
        training = log.training_events()
        count = np.bincount(user_of_events(log.sequences.offsets)[training], minlength=log.users.height)
        windows = -(-(count - 1).clip(0) // length)
        if not windows.sum():
            raise ValueError(
                f"None of the {log.users.height} users has two events in the training split, so that there is no next "
                "item to learn. Change history.split, or rank by neighbours or popularity."
            )
        user = np.repeat(np.arange(len(count)), windows)
        earlier = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)  # windows of the user
        begin = np.concatenate([[0], np.cumsum(count)])
        last = begin[1:][user] - 1 - earlier * length
        return cls(
            log.sequences.item_index[training].astype(np.int64), np.maximum(begin[:-1][user], last - length), last
        )

    @property
    def targets(self) -> np.ndarray:
        """Number of targets of each window, shape (windows,)."""
        return self.last - self.first

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return items of windows, left-aligned, (rows, longest + 1), and which are targets, (rows, longest)."""
        places = self.first[rows, None] + np.arange(self.targets[rows].max() + 1)
        inside = places <= self.last[rows, None]
        return torch.from_numpy(self.items[np.where(inside, places, self.first[rows, None])]), torch.from_numpy(
            inside[:, 1:]
        )


def validation_likes(log: InteractionLog, rows: int | None, seed: int) -> pl.DataFrame:
    """Return at most `rows` random validation likes of items new to a nonempty history: item_index and `MOMENT`.

    Raises:
        ValueError: there is none.
    """
    all_likes = log.samples_in("validation").filter(label=1).select("item_index", *MOMENT)
    has_history = all_likes["history_end"].to_numpy() > log.sequences.offsets[all_likes["user_index"].to_numpy()]
    likes = all_likes.filter(has_history & ~TakenItems.from_sequences(log.sequences).before(all_likes))
    if likes.is_empty():
        raise ValueError(
            f"None of the {all_likes.height} likes of the validation split is of an item that is new to a user with "
            "earlier events, so that there is nothing to choose an epoch by: a log whose users have one item, or one "
            "second, has no sequences. Change history.split, or rank by neighbours or popularity."
        )
    return likes[np.sort(np.random.default_rng(seed).permutation(likes.height)[:rows])]
