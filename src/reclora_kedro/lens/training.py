"""Training of a lens on all training samples."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from kedro_provenance.errors import Parameter, worded
from reclora_kedro.devices import choose_device, seeded
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, train_together
from reclora_kedro.distributed.group import Group
from reclora_kedro.errors import require_both_classes
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader, fresh_lens
from reclora_kedro.optimization import TrainingLog, require_finite
from reclora_kedro.progress import Progress

logger = logging.getLogger(__name__)

NO_ROWS = np.empty(0, dtype=np.int32)
GATHERED_ROWS = 2**20  # samples whose columns are gathered together
EPOCH_ROWS = 1_000_000  # maximum of an epoch: on a large log, training ends when so many more rows bring nothing
LEAST_GAIN = 5e-4  # of validation AUC by an epoch of a longer pass: less is not worth the minutes, and within its error
LONG_PASS_BATCHES = 4  # of `config.batch_size` per step of a longer pass: each step moves the vectors of all ids
TRAINING_LOG = {
    "rows": pl.Int64,
    "train_loss": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_auc": pl.Float64,
    "seconds": pl.Float64,
}


def fit_lens(log: InteractionLog, config: LensConfig, engine: EngineConfig = LOCAL) -> tuple[Lens, pl.DataFrame]:
    """Train a lens on the training samples and keep the epoch with the best validation AUC.

    Workers share the parts of each step's rows (`config.batch_parts`) and sum their gradients, so that the result does
    not depend on their number, except for rounding: the frozen lens on the CPU, and a log with one row per epoch.

    FloatingPointError is raised if training diverged, ShardError if the workers failed, and ValueError if the training
    or validation split holds one class, or there are more workers than parts.
    """
    for split in ("train", "validation"):
        labels = log.samples_in(split, "label")["label"]
        advice = "Change ", Parameter("history.split"), ", or move ", Parameter("ingestion.label_threshold")
        require_both_classes(int(labels.sum()), len(labels), f"The {split} split of the samples", advice)
    engine.require_parts(config.batch_parts, "lens")
    lens, training_log = train_together(partial(_fit, log, config), engine, "train the lens")
    rows, auc = training_log["rows"].to_list(), training_log["validation_auc"].to_list()
    if rows[-1] >= config.max_rows and len(auc) > 1 and auc[-1] > max(auc[:-1]) + LEAST_GAIN:
        rise = f"raised its validation AUC by {auc[-1] - max(auc[:-1]):.4f}, to {auc[-1]:.4f}"
        found = f"The lens was trained on {rows[-1]:,} rows, and the last {rows[-1] - rows[-2]:,} of them {rise}"
        logger.warning(worded(f"{found}. With a higher ", Parameter("lens.max_rows"), " it may learn more."))
    return lens, training_log


def _fit(log: InteractionLog, config: LensConfig, group: Group) -> tuple[Lens, pl.DataFrame]:
    with seeded(config.seed, choose_device(config.device)):
        lens, loader = fresh_lens(log, config)
        training = LensTraining(lens, loader, config.learning_rate, group)
        training_log = training.run(Passes(log.rows_in("train"), config.max_epochs, config.max_rows), config.patience)
    return lens.cpu().freeze(), training_log


@dataclass(frozen=True)
class Passes:
    """Rows that a lens learns from in at most `limit` passes, each with a fresh draw of `replayed` rows of `replay`."""

    rows: np.ndarray
    limit: int
    max_rows: int | None = None  # of all passes together, to the next epoch; None: any number
    replay: np.ndarray = field(default_factory=lambda: NO_ROWS)
    replayed: int = 0

    def __len__(self) -> int:
        """Return the number of rows of each pass."""
        return len(self.rows) + self.replayed

    @property
    def total(self) -> int:
        """Return the maximum of rows of all passes."""
        return self.limit * len(self) if self.max_rows is None else min(self.limit * len(self), self.max_rows)

    def epochs(self) -> Iterator[np.ndarray]:
        """Yield the rows of each epoch, in a random order."""
        for _ in range(self.limit):
            order = _shuffle(np.concatenate([self.rows, _shuffle(self.replay)[: self.replayed]]))
            yield from np.array_split(order, -(-len(order) // EPOCH_ROWS))


def _shuffle(train: np.ndarray) -> np.ndarray:
    return train[torch.randperm(len(train), dtype=torch.int32).numpy()]


class LensTraining:
    """A lens on its device with its batches, labels and optimiser, in one process or in each of a group."""

    def __init__(self, lens: Lens, loader: LensLoader, learning_rate: float, group: Group) -> None:
        log = loader.log
        self.device = choose_device(lens.config.device)
        self.lens, self.loader = lens.to(self.device), loader
        self.samples = log.samples.select("user_index", "item_index", "history_end", "timestamp", "label")
        self.optimizer = torch.optim.AdamW(
            lens.parameters(), lr=learning_rate, weight_decay=lens.config.weight_decay, fused=True
        )
        validation, config = log.rows_in("validation"), lens.config
        drawn = np.random.default_rng(config.seed).permutation(len(validation))[: config.validation_rows]
        self.validation = self.samples[validation[np.sort(drawn)]]
        self.group, self.rows_per_step, self.keeps_gradients = group, config.batch_size, False

    def run(self, passes: Passes, patience: int, *, keep_start: bool = False) -> pl.DataFrame:
        """Train until `patience` epochs bring no better validation AUC, keep the best weights, and return the log.

        An epoch is a pass or, if its rows are many, `EPOCH_ROWS` of them that the pass has not had; it then has to be
        better by `LEAST_GAIN`, and steps have `LONG_PASS_BATCHES` times as many rows. With `keep_start`, the initial
        weights count as epoch 0.
        """
        log, started, seen = TrainingLog(patience), time.perf_counter(), 0
        start = [NO_ROWS] if keep_start else []
        most, is_long = passes.total, len(passes) > EPOCH_ROWS
        least_gain = LEAST_GAIN if is_long else 0.0
        self.rows_per_step = self.lens.config.batch_size * (LONG_PASS_BATCHES if is_long else 1)
        if is_long and self.device.type == "cpu":
            self.keep_gradients()
        of_epoch = len(passes) / max(1, math.ceil(len(passes) / EPOCH_ROWS))
        most_rows = round(math.ceil(most / of_epoch) * of_epoch)
        with Progress("lens", most_rows, "rows", at_most=True) as progress:
            for epoch in chain(start, passes.epochs()):
                train_loss = self.epoch(epoch, progress) if len(epoch) else None
                seen += len(epoch)
                auc, validation_loss = self.validate()
                values = (seen, train_loss, validation_loss, auc, time.perf_counter() - started)
                log.records.append(dict(zip(TRAINING_LOG, values, strict=True)))
                progress.show(validation_auc=f"{auc:.4f}")
                log.keep_if_best(self.lens.state_dict(), auc, least_gain=least_gain)
                if log.is_over or seen >= most:
                    break
        self.lens.load_state_dict(log.best)
        return pl.DataFrame(log.records, TRAINING_LOG)

    def epoch(self, shuffled: np.ndarray, progress: Progress) -> float:
        """Train on the samples in this order and return the mean loss.

        Processes share the parts of each step. Random masks depend on step and part only, not on the number of
        processes.
        """
        config, rank, processes = self.lens.config, self.group.rank, self.group.size
        size, part_size = self.rows_per_step, self.rows_per_step // config.batch_parts
        batches = self._own_batches(shuffled)
        self.lens.train()
        total_loss = torch.zeros((), device=self.device)
        for start in range(0, len(shuffled), size):
            rows = min(size, len(shuffled) - start)
            seed = int(torch.randint(2**31, ())) if config.batch_parts > 1 else None
            self.optimizer.zero_grad(set_to_none=not self.keeps_gradients)
            for part in range(rank, -(-rows // part_size), processes):
                labels, batch = next(batches)
                with nullcontext() if seed is None else seeded(seed + part, self.device):
                    logits = self.lens(batch.to(self.device))
                loss = functional.binary_cross_entropy_with_logits(logits, labels.to(self.device))
                loss = loss * (len(labels) / rows)
                loss.backward()
                total_loss += loss.detach() * rows
            self.group.sum_gradients(self.lens.parameters())
            self.optimizer.step()
            progress.update(rows)
        return self.group.sum(total_loss).item() / len(shuffled)

    def keep_gradients(self) -> None:
        """Let embeddings add to gradients that are made once: those of all ids, per lookup, take half of a step."""
        self.keeps_gradients = True
        for module in self.lens.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = True
                module.weight.grad = torch.zeros_like(module.weight)

    def _own_batches(self, shuffled: np.ndarray) -> Iterator[tuple[Tensor, LensBatch]]:
        """Yield labels and inputs of this process's parts of the steps; many parts' samples are gathered together."""
        size, part_size = self.rows_per_step, self.rows_per_step // self.lens.config.batch_parts
        together = size * max(1, GATHERED_ROWS // size)
        for start in range(0, len(shuffled), together):
            rows = shuffled[start : start + together]
            part_of_step = np.arange(len(rows)) % size // part_size
            samples = self.samples[rows[part_of_step % self.group.size == self.group.rank]]
            labels = _labels(samples)
            for places, batch in self.loader.batches(samples, part_size):
                yield labels[places], batch

    @torch.inference_mode()
    def validate(self) -> tuple[float, float]:
        """Return AUC and log loss of validation samples; raise FloatingPointError for a logit that is not finite."""
        from sklearn.metrics import roc_auc_score  # for which the service, which grows lenses, would wait

        self.lens.eval()
        samples, labels = self.validation, _labels(self.validation)
        own = np.array_split(np.arange(len(samples)), self.group.size)[self.group.rank]
        logits = torch.zeros(len(samples), device=self.device)
        for places, batch in self.loader.batches(samples[own], SCORING_BATCH_SIZE):
            logits[torch.from_numpy(own[places])] = self.lens(batch.to(self.device))
        logits = self.group.sum(logits).cpu()
        advice = "the lens has diverged. Lower lens.learning_rate or lens.weight_decay."
        require_finite(logits, "A validation logit of the lens", f"among {len(samples)}", advice)
        loss = functional.binary_cross_entropy_with_logits(logits, labels).item()
        return float(roc_auc_score(labels, logits)), loss


def _labels(samples: pl.DataFrame) -> Tensor:
    return torch.tensor(samples["label"].to_numpy(), dtype=torch.float32)
