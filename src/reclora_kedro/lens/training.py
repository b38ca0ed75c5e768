"""Training of a lens on all training rows, and what it says about given rows."""

import copy
import time
from collections.abc import Callable

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import Lens, LensBatch, build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.features import LensRows, encode_entities
from reclora_kedro.llm.devices import choose_device

SCORING_BATCH_ROWS = 2048


def fit_lens(
    samples: pl.DataFrame,
    sequences: Sequences,
    item_embeddings: np.ndarray,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: LensConfig,
) -> tuple[Lens, pl.DataFrame]:
    """Trains a lens on the training rows and keeps the epoch with the best validation AUC.

    Args:
        samples: the samples table, all splits.
        sequences: every user's events.
        item_embeddings: semantic vectors by item index, shape (items, d), that retrieval compares.
        items: canonical items, by item index.
        users: canonical users, by user index.
        config: settings of the lens.

    Returns:
        The frozen lens on the CPU, and its training log with one row an epoch.

    Raises:
        ValueError: the training or validation split holds one class, or `item_embeddings` has not one row an item.
    """
    _require_both_classes(samples)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        lens = _fresh_lens(samples, sequences, items, users, config)
        rows = rows_of(lens, samples, sequences, item_embeddings)
        log = _train(lens, rows, samples)
    return lens.cpu().freeze(), log


def rows_of(lens: Lens, samples: pl.DataFrame, sequences: Sequences, item_embeddings: np.ndarray) -> LensRows:
    """The samples as this lens reads them.

    Raises:
        ValueError: `item_embeddings` has not one row an item.
    """
    if len(item_embeddings) != lens.sizes.items:
        raise ValueError(
            f"item_embeddings has {len(item_embeddings)} rows, but the lens knows {lens.sizes.items} items: they stem "
            "from different runs; run the history and lens pipelines again, `kedro run --pipelines history,lens`"
        )
    long_history = lens.config.long_history if lens.reads_long_history else None
    return LensRows(samples, sequences, item_embeddings, lens.config.recent_length, long_history)


def _require_both_classes(samples: pl.DataFrame) -> None:
    for split in ("train", "validation"):
        labels = samples.filter(pl.col("split") == split)["label"]
        if labels.n_unique() < 2:
            raise ValueError(
                f"samples: the {split} split has {len(labels)} rows with labels {labels.unique().to_list()}; the lens "
                "needs liked and disliked ones: check the label threshold and the split shares of the history step"
            )


def _fresh_lens(
    samples: pl.DataFrame, sequences: Sequences, items: pl.DataFrame, users: pl.DataFrame, config: LensConfig
) -> Lens:
    train = samples.filter(pl.col("split") == "train")
    user_codes = encode_entities(users, _seen(train["user_index"], users.height), config.field_min_count)
    item_codes = encode_entities(items, _seen(train["item_index"], items.height), config.field_min_count)
    sizes = LensSizes(
        users=users.height,
        user_fields=tuple(user_codes.fields),
        user_width=user_codes.field_codes.shape[-1],
        user_values=user_codes.values,
        items=items.height,
        item_fields=tuple(item_codes.fields),
        item_width=item_codes.field_codes.shape[-1],
        item_values=item_codes.values,
        rating_levels=int(sequences.rating_level.max()) + 1,
    )
    lens = build_lens(config, sizes)
    for entity, codes in ((lens.user, user_codes), (lens.item, item_codes)):
        entity.id_codes.copy_(codes.id_codes)
        entity.field_codes.copy_(codes.field_codes)
    return lens


def _seen(index: pl.Series, count: int) -> np.ndarray:
    return np.bincount(index.to_numpy(), minlength=count) > 0


def _train(lens: Lens, rows: LensRows, samples: pl.DataFrame) -> pl.DataFrame:
    config, device = lens.config, choose_device(lens.config.device)
    lens.to(device)
    train, validation = (np.flatnonzero((samples["split"] == split).to_numpy()) for split in ("train", "validation"))
    labels = torch.tensor(samples["label"].to_numpy(), dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        lens.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    log: list[dict[str, float]] = []
    best_epoch, best_auc, best_weights = 0, 0.0, lens.state_dict()
    started = time.perf_counter()
    with tqdm(total=config.max_epochs * len(train), desc="lens", unit=" rows", disable=None) as progress:
        for epoch in range(1, config.max_epochs + 1):
            train_loss = _train_epoch(lens, rows, train, labels, optimizer, device, progress)
            logits = _in_batches(lens.eval(), rows, validation, device)
            auc = float(roc_auc_score(labels[validation], logits))
            validation_loss = functional.binary_cross_entropy_with_logits(logits, labels[validation]).item()
            log.append(
                {
                    "rows": epoch * len(train),
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                    "validation_auc": auc,
                    "seconds": time.perf_counter() - started,
                }
            )
            progress.set_postfix(validation_auc=f"{auc:.4f}")
            if auc > best_auc:
                best_epoch, best_auc, best_weights = epoch, auc, copy.deepcopy(lens.state_dict())
            elif epoch - best_epoch >= config.patience:
                break
    lens.load_state_dict(best_weights)
    return pl.DataFrame(log)


def _train_epoch(
    lens: Lens,
    rows: LensRows,
    train: np.ndarray,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    progress: tqdm,
) -> float:
    lens.train()
    total_loss = torch.zeros((), device=device)
    shuffled = train[torch.randperm(len(train)).numpy()]
    for batch_rows, batch in rows.batches(shuffled, lens.config.batch_size):
        logits = lens(batch.to(device))
        loss = functional.binary_cross_entropy_with_logits(logits, labels[batch_rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.detach() * len(batch_rows)
        progress.update(len(batch_rows))
    return total_loss.item() / len(train)


def score_rows(lens: Lens, rows: LensRows, chosen: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
    """States and scores of chosen samples.

    Args:
        lens: a frozen lens; it runs on `lens.config.device`.
        rows: all samples.
        chosen: row numbers, shape (n,).

    Returns:
        Float32 states by kind, each of shape (n, state_dim(kind)), with the logits as ``logit``, shape (n,); and
        float64 probabilities of a like, shape (n,); all on the CPU.
    """
    device = choose_device(lens.config.device)
    lens.to(device)
    parts = [_describe(lens, batch.to(device)) for _, batch in rows.batches(chosen, SCORING_BATCH_ROWS)]
    states = {kind: torch.cat([part[kind] for part in parts]) for kind in (*lens.state_kinds, "logit")}
    return states, torch.sigmoid(states["logit"].double())


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
def _in_batches(
    compute: Callable[[LensBatch], Tensor], rows: LensRows, chosen: np.ndarray, device: torch.device
) -> Tensor:
    return torch.cat([compute(batch.to(device)).cpu() for _, batch in rows.batches(chosen, SCORING_BATCH_ROWS)])
