"""What the lens says about users as they are now, whatever the item."""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import LensRows
from reclora_kedro.lens.training import SCORING_BATCH_ROWS
from reclora_kedro.llm.devices import choose_device


@torch.inference_mode()
def user_states(lens: Lens, sequences: Sequences, item_embeddings: np.ndarray, user_index: np.ndarray) -> Tensor:
    """States of kind `user` with each user's whole sequence as history; no split or target item plays a part.

    Args:
        lens: a frozen lens; it runs on `lens.config.device`.
        sequences: every user's events.
        item_embeddings: semantic vectors by item index, shape (items, d).
        user_index: the users, shape (n,).

    Returns:
        Float32 states on the CPU, shape (n, state_dim("user")).
    """
    now = pl.DataFrame(
        {
            "user_index": user_index.astype(np.int32),
            "item_index": np.zeros(len(user_index), dtype=np.int32),  # the state is the same for every item
            "history_end": sequences.offsets[user_index + 1],
        }
    )
    rows = LensRows(now, sequences, item_embeddings, lens.config.recent_length, long_history=None)
    device = choose_device(lens.config.device)
    lens.to(device)
    batches = rows.batches(np.arange(len(user_index)), SCORING_BATCH_ROWS)
    return torch.cat([lens.states(batch.to(device), "user").cpu() for _, batch in batches])


def choose_users(
    users: pl.DataFrame, sequences: Sequences, user_ids: tuple[int | str, ...] | None, most_active: int | None
) -> np.ndarray:
    """Indices of users by id, in the order given, or of those with the most events, most first.

    Args:
        users: canonical users.
        sequences: every user's events.
        user_ids: ids of the users; None chooses by activity.
        most_active: how many users to choose by activity, at most all.

    Raises:
        ValueError: an id is not in the users table.

    Examples:
        >>> users = pl.DataFrame({"user_id": [3, 7, 9]})
        >>> sequences = Sequences(np.array([0, 1, 5, 9]), *[np.zeros(9)] * 5)
        >>> choose_users(users, sequences, (9, "3"), None)
        array([2, 0])
        >>> choose_users(users, sequences, None, 2)
        array([1, 2])
    """
    if user_ids is None:
        return np.argsort(-np.diff(sequences.offsets), kind="stable")[:most_active]
    place = {str(user_id): index for index, user_id in enumerate(users["user_id"])}
    unknown = [user_id for user_id in user_ids if str(user_id) not in place]
    if unknown:
        raise ValueError(
            f"export.users names {', '.join(map(repr, unknown))}, which the users table lacks; it has {users.height} "
            f"users, such as {', '.join(map(str, users['user_id'].head(3)))}. Correct the ids, or set export.users to "
            "null and export.most_active to a number of users."
        )
    return np.array([place[user_id] for user_id in dict.fromkeys(map(str, user_ids))])
