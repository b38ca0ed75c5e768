"""Training of a lens on all training samples."""

import copy
import time
from contextlib import nullcontext
from functools import partial
from itertools import islice

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from reclora_kedro.devices import choose_device, seeded
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, train_together
from reclora_kedro.distributed.group import Group
from reclora_kedro.errors import require_both_classes
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens, build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.features import LensLoader, encode_entities, item_texts
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.progress import Progress

SCORING_BATCH_SIZE = 2048


def fit_lens(log: InteractionLog, config: LensConfig, engine: EngineConfig = LOCAL) -> tuple[Lens, pl.DataFrame]:
    """Train a lens on the training samples and keep the epoch with the best validation AUC.

    Workers share the parts of each step's rows (`config.batch_parts`), and sum their gradients: what comes out does not
    depend on their number, but for rounding.

    Args:
        log: the log, with item embeddings where the lens reads them.
        config: settings of the lens.
        engine: what trains it.

    Returns:
        The frozen lens on the CPU, and its training log with one row per epoch.

    Raises:
        ShardError: the workers failed.
        ValueError: the training or validation split holds one class, or there are more workers than parts.
    """
    for split in ("train", "validation"):
        labels = log.samples.filter(pl.col("split") == split)["label"]
        require_both_classes(
            int(labels.sum()),
            len(labels),
            f"the {split} split of the samples",
            "Change history.split, or move the label threshold of ingestion.",
        )
    if not engine.spreads:
        return _fit(log, config)
    engine.require_parts(config.batch_parts, "lens")
    return train_together(partial(_fit, log, config), engine, "train the lens")


def _fit(log: InteractionLog, config: LensConfig) -> tuple[Lens, pl.DataFrame]:
    with seeded(config.seed, choose_device(config.device)):
        lens = _fresh_lens(log, config)
        training_log = _train(lens, log)
    return lens.cpu().freeze(), training_log


def refit_lens(lens: Lens, log: InteractionLog, left_out: np.ndarray, epochs: int) -> Lens:
    """Train a lens anew as it was trained, same seed and order of samples, but without some of the training samples.

    A user or item that only those samples hold is unknown to it, as to any lens that never saw them. Without samples
    left out, and with the lens's own number of epochs, it is the same lens.

    Args:
        lens: the trained lens.
        log: the log that it was trained on.
        left_out: row numbers of training samples, shape (n,).
        epochs: passes over the training samples.

    Returns:
        The frozen lens.
    """
    train = log.rows_in("train")
    kept = log.samples[np.setdiff1d(train, left_out)]
    device = choose_device(lens.config.device)
    with seeded(lens.config.seed, device):
        fresh = build_lens(lens.config, lens.sizes)
        for new, old, index in ((fresh.user, lens.user, "user_index"), (fresh.item, lens.item, "item_index")):
            seen = torch.from_numpy(_seen(kept[index], len(old.id_codes)))
            new.id_codes.copy_(old.id_codes.cpu().where(seen, UNKNOWN_ID))
            new.field_codes.copy_(old.field_codes)
        if lens.config.item_text:
            fresh.item.texts.copy_(lens.item.texts)
        fresh.statistics.copy_scales(lens.statistics)
        fresh.similarities.copy_scales(lens.similarities)
        training = _Training(fresh.to(device), log, device)
        with Progress("lens without a fold", epochs * kept.height, "rows") as progress:
            for _ in range(epochs):
                shuffled = _shuffle(train)
                training.epoch(shuffled[~np.isin(shuffled, left_out)], progress)
    return fresh.freeze()


def _fresh_lens(log: InteractionLog, config: LensConfig) -> Lens:
    train = log.samples.filter(pl.col("split") == "train")
    user_codes, item_codes = (
        encode_entities(table, _seen(train[index], table.height), config.field_min_count)
        for table, index in ((log.users, "user_index"), (log.items, "item_index"))
    )
    texts = item_texts(log) if config.item_text else torch.empty(log.items.height, 0)
    sizes = LensSizes(
        users=log.users.height,
        user_fields=tuple(user_codes.fields),
        user_width=user_codes.field_codes.shape[-1],
        user_values=user_codes.values,
        items=log.items.height,
        item_fields=tuple(item_codes.fields),
        item_width=item_codes.field_codes.shape[-1],
        item_values=item_codes.values,
        item_text_widths=log.encoder_widths if config.item_text else (),
        rating_levels=int(log.sequences.rating_level.max()) + 1,
        trained_until=int(train["timestamp"].to_numpy().max()),
    )
    lens = build_lens(config, sizes)
    if config.rating_statistics:
        lens.statistics.fit(LensLoader(log, lens).statistics(train))
    for entity, codes in ((lens.user, user_codes), (lens.item, item_codes)):
        entity.id_codes.copy_(codes.id_codes)
        entity.field_codes.copy_(codes.field_codes)
    if config.item_text:
        lens.item.texts.copy_(texts)
        batches = LensLoader(log, lens).batches(train, SCORING_BATCH_SIZE)
        lens.similarities.fit(torch.cat([lens.text_similarities(batch) for _, batch in batches]))
    return lens


def _seen(index: pl.Series, count: int) -> np.ndarray:
    return np.bincount(index.to_numpy(), minlength=count) > 0


def _train(lens: Lens, log: InteractionLog) -> pl.DataFrame:
    config, device = lens.config, choose_device(lens.config.device)
    training = _Training(lens.to(device), log, device)
    train, validation = log.rows_in("train"), log.rows_in("validation")
    epochs: list[dict[str, float]] = []
    best_epoch, best_auc, best_weights = 0, 0.0, lens.state_dict()
    started = time.perf_counter()
    with Progress("lens", config.max_epochs * len(train), "rows") as progress:
        for epoch in range(1, config.max_epochs + 1):
            train_loss = training.epoch(_shuffle(train), progress)
            auc, validation_loss = training.validate(validation)
            epochs.append(
                {
                    "rows": epoch * len(train),
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                    "validation_auc": auc,
                    "seconds": time.perf_counter() - started,
                }
            )
            progress.show(validation_auc=f"{auc:.4f}")
            if auc > best_auc:
                best_epoch, best_auc, best_weights = epoch, auc, copy.deepcopy(lens.state_dict())
            elif epoch - best_epoch >= config.patience:
                break
    lens.load_state_dict(best_weights)
    return pl.DataFrame(epochs)


def _shuffle(train: np.ndarray) -> np.ndarray:
    return train[torch.randperm(len(train)).numpy()]


class _Training:
    """A lens on its device, with its batches, labels and optimiser; in one process, or in each of a group."""

    def __init__(self, lens: Lens, log: InteractionLog, device: torch.device) -> None:
        config = lens.config
        self.lens, self.device, self.loader = lens, device, LensLoader(log, lens)
        self.samples = log.samples.select("user_index", "item_index", "history_end", "timestamp")
        self.labels = torch.tensor(log.samples["label"].to_numpy(), dtype=torch.float32)
        self.optimizer = torch.optim.AdamW(
            lens.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.group = Group()

    def epoch(self, shuffled: np.ndarray, progress: Progress) -> float:
        """One pass over the samples in this order; return the mean loss.

        The parts of each step's rows are divided among the processes; the random masks of a part depend on the step and
        the part alone.
        """
        config = self.lens.config
        size, part_size = config.batch_size, config.batch_size // config.batch_parts
        steps = np.split(shuffled, range(size, len(shuffled), size))
        rank, processes = self.group.rank, self.group.size
        parts = [np.split(rows, range(part_size, len(rows), part_size))[rank::processes] for rows in steps]
        own = np.concatenate([shuffled[:0], *(rows for step in parts for rows in step)])
        batches, labels = self.loader.batches(self.samples[own], part_size), self.labels[own].to(self.device)
        self.lens.train()
        total_loss = torch.zeros((), device=self.device)
        for rows, mine in zip(steps, parts, strict=True):
            seed = int(torch.randint(2**31, ())) if config.batch_parts > 1 else None
            self.optimizer.zero_grad()
            for number, (places, batch) in enumerate(islice(batches, len(mine))):
                part = rank + number * processes
                with nullcontext() if seed is None else seeded(seed + part, self.device):
                    logits = self.lens(batch.to(self.device))
                loss = functional.binary_cross_entropy_with_logits(logits, labels[places]) * (len(places) / len(rows))
                loss.backward()
                total_loss += loss.detach() * len(rows)
            self.group.sum_gradients(self.lens.parameters())
            self.optimizer.step()
            progress.update(len(rows))
        return self.group.sum(total_loss).item() / len(shuffled)

    @torch.inference_mode()
    def validate(self, rows: np.ndarray) -> tuple[float, float]:
        """AUC and log loss of these samples."""
        self.lens.eval()
        mine = np.array_split(np.arange(len(rows)), self.group.size)[self.group.rank]
        logits = torch.zeros(len(rows), device=self.device)
        for places, batch in self.loader.batches(self.samples[rows[mine]], SCORING_BATCH_SIZE):
            logits[torch.from_numpy(mine[places])] = self.lens(batch.to(self.device))
        logits = self.group.sum(logits).cpu()
        loss = functional.binary_cross_entropy_with_logits(logits, self.labels[rows]).item()
        return float(roc_auc_score(self.labels[rows], logits)), loss
