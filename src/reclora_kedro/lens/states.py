"""What a frozen lens says: states and logits of samples, and states of users as they are now."""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.devices import choose_device
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.training import SCORING_BATCH_SIZE


def lens_states(lens: Lens, log: InteractionLog, rows: np.ndarray) -> dict[str, Tensor]:
    """States of every kind and logits of samples.

    Args:
        lens: a frozen lens; it runs on `lens.config.device`.
        log: the log of the samples.
        rows: row numbers of the samples, shape (n,).

    Returns:
        ``row``, int64, shape (n,); float32 states by kind, each of shape (n, state_dim(kind)), and ``logit``, shape
        (n,); all on the CPU.
    """
    device = choose_device(lens.config.device)
    lens.to(device)
    batches = LensLoader(log, lens).batches(rows, SCORING_BATCH_SIZE)
    parts = [_describe(lens, batch.to(device)) for _, batch in batches]
    nothing = {kind: torch.empty(0, lens.state_dim(kind)) for kind in lens.state_kinds} | {"logit": torch.empty(0)}
    states = {kind: torch.cat([empty, *(part[kind] for part in parts)]) for kind, empty in nothing.items()}
    return {"row": torch.from_numpy(rows.astype(np.int64)), **states}


def lens_scores(states: dict[str, Tensor]) -> np.ndarray:
    """Probabilities of a like of samples with these states, float64, shape (n,)."""
    return torch.sigmoid(states["logit"].double()).numpy()


@torch.inference_mode()
def _describe(lens: Lens, batch: LensBatch) -> dict[str, Tensor]:
    """States of every kind, and ``logit``, on the CPU; each is computed from the one before it."""
    fields = lens.states(batch, "fields")
    target = lens.interact(fields)
    states = {"fields": fields, "target": target, "logit": lens.output(target).squeeze(-1)}
    if "user" in lens.state_kinds:
        states["user"] = lens.states(batch, "user")
    return {kind: state.cpu() for kind, state in states.items()}


@torch.inference_mode()
def user_states(lens: Lens, log: InteractionLog, user_index: np.ndarray) -> Tensor:
    """States of kind `user` with each user's whole sequence as history; no split or target item plays a part.

    Returns:
        Float32 states on the CPU, shape (n, state_dim("user")).
    """
    pairs = pl.DataFrame({"user_index": user_index, "item_index": np.zeros_like(user_index)})  # whatever the item
    device = choose_device(lens.config.device)
    lens.to(device)
    loader = LensLoader(log.now(pairs), lens, long_history=False)
    batches = loader.batches(np.arange(len(user_index)), SCORING_BATCH_SIZE)
    return torch.cat([lens.states(batch.to(device), "user").cpu() for _, batch in batches])
