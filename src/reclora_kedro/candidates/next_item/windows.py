"""Training events as windows of histories."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.history.log import InteractionLog


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive training events of one user; each event but a user's first is the target of one window."""

    items: np.ndarray  # of the training events, by user, in order of time; int32, shape (events,)
    first: np.ndarray  # place of each window's first event, shape (windows,)
    last: np.ndarray  # place of its last one, which is a target alone, shape (windows,)

    @classmethod
    def from_log(cls, log: InteractionLog, length: int) -> Self:
        """Cut training events into windows of up to `length` events before a target; raise Fault without any."""
        training = log.training_events()
        begin = np.concatenate([[0], np.cumsum(training)])[log.sequences.offsets]
        count = np.diff(begin)
        windows = -(-(count - 1).clip(0) // length)
        if not windows.sum():
            found = f"has two events of none of {log.users.height} users, so that there is no next item to learn"
            advice = "Change ", Parameter("history.split"), ", or rank by neighbours or popularity"
            raise Fault("The training split", found, advice=advice)
        user = np.repeat(np.arange(len(count)), windows)
        earlier = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)  # windows of the user
        last = begin[1:][user] - 1 - earlier * length
        return cls(log.sequences.item_index[training], np.maximum(begin[:-1][user], last - length), last)

    @property
    def targets(self) -> np.ndarray:
        """Number of targets of each window, shape (windows,)."""
        return self.last - self.first

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return items of windows, left-aligned, (rows, longest + 1), and which are targets, (rows, longest)."""
        places = self.first[rows, None] + np.arange(self.targets[rows].max() + 1)
        inside = places <= self.last[rows, None]
        items = self.items[np.where(inside, places, self.first[rows, None])]
        return torch.from_numpy(items).long(), torch.from_numpy(inside[:, 1:])
