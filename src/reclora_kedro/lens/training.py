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
from torch import Tensor
from torch.nn import functional

from reclora_kedro.devices import choose_device, seeded
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, train_together
from reclora_kedro.distributed.group import Group
from reclora_kedro.errors import require_both_classes
from reclora_kedro.histories.co_occurrences import cross_fitted_vectors
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens, build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.features import LensLoader, coded_values, encode_fields, item_texts
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.progress import Progress

SCORING_BATCH_SIZE = 2048
NO_ROWS = np.empty(0, dtype=np.int64)
TRAINING_LOG = {
    "rows": pl.Int64,
    "train_loss": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_auc": pl.Float64,
    "seconds": pl.Float64,
}


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
        FloatingPointError: training diverged.
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
        training = LensTraining(lens, log, config.learning_rate)
        training_log = training.run(log.rows_in("train"), config.max_epochs, config.patience)
    return lens.cpu().freeze(), training_log


def _fresh_lens(log: InteractionLog, config: LensConfig) -> Lens:
    train = log.samples.filter(pl.col("split") == "train")
    users_seen, items_seen = (
        seen_in(train[index], table.height) for table, index in ((log.users, "user_index"), (log.items, "item_index"))
    )
    user_fields, item_fields = (
        coded_values(table, seen.numpy(), config.field_min_count)
        for table, seen in ((log.users, users_seen), (log.items, items_seen))
    )
    of_users, of_items = encode_fields(log.users, user_fields), encode_fields(log.items, item_fields)
    trained_until = int(train["timestamp"].to_numpy().max())
    ratings = log.sequences.rating[log.sequences.timestamp <= trained_until]
    texts = item_texts(log) if config.item_text else torch.empty(log.items.height, 0)
    sizes = LensSizes(
        users=log.users.height,
        user_fields=user_fields,
        user_width=of_users.shape[-1],
        items=log.items.height,
        item_fields=item_fields,
        item_width=of_items.shape[-1],
        item_text_widths=log.encoder_widths if config.item_text else (),
        rating_levels=int(log.sequences.rating_level.max()) + 1,
        rating_range=(float(ratings.min()), float(ratings.max())),
        trained_until=trained_until,
    )
    lens = build_lens(config, sizes)
    if config.rating_statistics:
        lens.statistics.fit(LensLoader(log, lens).statistics(train))
    for entity, seen, codes in ((lens.user, users_seen, of_users), (lens.item, items_seen, of_items)):
        entity.id_codes.copy_(torch.arange(1, 1 + len(seen)).masked_fill(~seen, UNKNOWN_ID))
        entity.field_codes.copy_(codes)
    if config.item_text:
        lens.item.texts.copy_(texts)
    if config.co_occurrence_folds:
        vectors = cross_fitted_vectors(log, lens.user_folds.numpy(), config.seed)
        lens.co_occurrences.copy_(torch.from_numpy(vectors))
    if lens.similarities.output_dim:
        lens.eval()
        batches = LensLoader(log, lens).batches(train, SCORING_BATCH_SIZE)
        lens.similarities.fit(torch.cat([lens.cosines(batch) for _, batch in batches]))
    return lens


def seen_in(index: pl.Series, count: int) -> Tensor:
    """Which of so many users (items) the index of some rows holds, bool, shape (count,)."""
    return torch.from_numpy(np.bincount(index.to_numpy(), minlength=count) > 0)


def _shuffle(train: np.ndarray) -> np.ndarray:
    return train[torch.randperm(len(train)).numpy()]


class LensTraining:
    """A lens on its device, with its batches, labels and optimiser; in one process, or in each of a group."""

    def __init__(self, lens: Lens, log: InteractionLog, learning_rate: float) -> None:
        self.device = choose_device(lens.config.device)
        self.lens, self.loader = lens.to(self.device), LensLoader(log, lens)
        self.samples = log.samples.select("user_index", "item_index", "history_end", "timestamp")
        self.labels = torch.tensor(log.samples["label"].to_numpy(), dtype=torch.float32)
        self.optimizer = torch.optim.AdamW(
            lens.parameters(), lr=learning_rate, weight_decay=lens.config.weight_decay, fused=True
        )
        self.validation = log.rows_in("validation")
        self.group = Group()

    def run(
        self,
        rows: np.ndarray,
        max_epochs: int,
        patience: int,
        replay: np.ndarray = NO_ROWS,
        replayed: int = 0,
        keep_start: bool = False,
    ) -> pl.DataFrame:
        """Train until so many epochs (`patience`) bring no better validation AUC, and keep the best one's weights.

        Args:
            rows: samples that every epoch has, by row number.
            max_epochs: most epochs.
            patience: epochs.
            replay: samples of which each epoch has some besides, drawn anew.
            replayed: how many of these.
            keep_start: whether the weights as they are count as epoch 0.

        Returns:
            The training log with one row per epoch.
        """
        epochs: list[tuple[float | None, ...]] = []
        best_epoch, best_auc, best_weights = 0, 0.0, copy.deepcopy(self.lens.state_dict())
        started, epoch_rows = time.perf_counter(), len(rows) + replayed
        with Progress("lens", max_epochs * epoch_rows, "rows") as progress:
            for epoch in range(0 if keep_start else 1, max_epochs + 1):
                drawn = np.concatenate([rows, _shuffle(replay)[:replayed]])
                train_loss = self.epoch(_shuffle(drawn), progress) if epoch else None
                auc, validation_loss = self.validate(self.validation)
                seconds = time.perf_counter() - started
                epochs.append((epoch * epoch_rows, train_loss, validation_loss, auc, seconds))
                progress.show(validation_auc=f"{auc:.4f}")
                if auc > best_auc:
                    best_epoch, best_auc, best_weights = epoch, auc, copy.deepcopy(self.lens.state_dict())
                elif epoch - best_epoch >= patience:
                    break
        self.lens.load_state_dict(best_weights)
        return pl.DataFrame(epochs, TRAINING_LOG, orient="row")

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
        """AUC and log loss of these samples.

        Raises:
            FloatingPointError: a logit is not finite.
        """
        self.lens.eval()
        mine = np.array_split(np.arange(len(rows)), self.group.size)[self.group.rank]
        logits = torch.zeros(len(rows), device=self.device)
        for places, batch in self.loader.batches(self.samples[rows[mine]], SCORING_BATCH_SIZE):
            logits[torch.from_numpy(mine[places])] = self.lens(batch.to(self.device))
        logits = self.group.sum(logits).cpu()
        if broken := int((~logits.isfinite()).sum()):
            raise FloatingPointError(
                f"{broken} of the lens's {len(rows)} validation logits are not finite: it has diverged. Lower "
                "lens.learning_rate or lens.weight_decay."
            )
        loss = functional.binary_cross_entropy_with_logits(logits, self.labels[rows]).item()
        return float(roc_auc_score(self.labels[rows], logits)), loss
