"""Training of a retriever on all events of the training split, as windows of histories."""

import copy
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.candidates.next_item.base import Retriever, fresh_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.reader import RetrieverReader
from reclora_kedro.devices import choose_device, keep_freed_memory, seeded
from reclora_kedro.distributed.checkpoints import Checkpoint, CheckpointStore, restore_training, training_tensors
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, train_together
from reclora_kedro.distributed.group import Group
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import validation_likes
from reclora_kedro.layers import distinct_indices
from reclora_kedro.optimization import TrainingLog, require_finite
from reclora_kedro.progress import Progress

LOGITS_AT_ONCE = 2**21  # 8 MiB: the passes over them stay in a processor's cache
CUTOFF = 10  # of the hit rate and NDCG that choose an epoch

logger = logging.getLogger(__name__)


def fit_retriever(
    log: InteractionLog,
    config: RetrieverConfig,
    engine: EngineConfig = LOCAL,
    checkpoints: CheckpointStore | None = None,
) -> tuple[Retriever, Records]:
    """Train a retriever on the training events and keep the epoch with the best hit rate on validation likes.

    Each event of a user but the first is predicted from the earlier ones, by cross-entropy over the catalogue. Events
    of one second are in the order of the log. Workers share the parts of each step's windows (`config.batch_parts`) and
    sum their gradients, so that the result does not depend on their number, except for rounding. With `checkpoints`, an
    interrupted training resumes from its last complete epoch and, on a CPU, ends with exactly the same weights.

    Returns:
        The frozen retriever on the CPU, and one record per epoch: epoch, loss (mean over positions, nats), hit_rate and
        ndcg (of the validation likes at `CUTOFF`, each among all items that its history lacks), and seconds.

    FloatingPointError is raised for a loss that is not finite, ShardError where workers failed, ValueError where there
    is no next item to train or validate on, or there are more workers than parts.
    """
    engine.require_parts(config.batch_parts, "retriever")
    return train_together(partial(_fit, log, config, checkpoints), engine, "train the retriever")


def _fit(
    log: InteractionLog, config: RetrieverConfig, checkpoints: CheckpointStore | None, group: Group
) -> tuple[Retriever, Records]:
    keep_freed_memory()
    training = RetrieverTraining(log, config, group)
    if checkpoints and (saved := checkpoints.newest()):
        training.restore(saved)
    positions = int(training.windows.targets.sum())
    done = len(training.log.records) * positions
    main, total = group.rank == 0, config.max_epochs * positions
    with Progress("retriever", total, "events", done, shown=main, at_most=True) as progress:
        while not training.ended:
            training.epoch(progress)
            last = training.log.records[-1]
            progress.show(hit_rate=f"{last['hit_rate']:.4f}", ndcg=f"{last['ndcg']:.4f}")
            if checkpoints and main:
                checkpoints.save(last["epoch"], *training.checkpoint())
    return training.best_retriever(), training.log.records


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
            found = f"has no user with two events ({log.users.height} users), so there is no next item to learn"
            advice = "Change ", Parameter("history.split"), ", or rank by item_knn or popularity"
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


class RetrieverTraining:
    """State of a training of a retriever, in one process or in each of a group."""

    def __init__(self, log: InteractionLog, config: RetrieverConfig, group: Group) -> None:
        self.config, self.device, self.group = config, choose_device(config.device), group
        self.interactions, self.windows = log, Windows.from_log(log, config.length)
        self.likes = validation_likes(log, config.validation_rows, config.seed)
        texts = log.item_text_vectors() if config.item_text else np.empty((log.items.height, 0), dtype=np.float32)
        with seeded(config.seed, self.device):
            fresh = fresh_retriever(torch.from_numpy(texts), torch.from_numpy(self.windows.items), config)
        self.retriever, self.average = fresh.to(self.device), copy.deepcopy(fresh).to(self.device)
        self.weights, self.averages = (dict(model.named_parameters()) for model in (self.retriever, self.average))
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.log = TrainingLog(config.patience)

    @property
    def ended(self) -> bool:
        """Whether all epochs are done or the validation has stopped improving."""
        return len(self.log.records) == self.config.max_epochs or self.log.is_over

    def best_retriever(self) -> Retriever:
        self.average.load_state_dict(self.log.best, strict=False)
        return self.average.cpu().freeze()

    def epoch(self, progress: Progress) -> None:
        """Train on all windows and validate; randomness depends on the seed and the epoch only."""
        began, number = time.perf_counter(), len(self.log.records) + 1
        before = self.log.records[-1]["seconds"] if self.log.records else 0.0
        size, total = self.config.batch_size, 0.0
        with seeded(int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0]), self.device):
            order = torch.randperm(len(self.windows.first)).numpy()
            self.retriever.train()
            for step, rows in enumerate(np.split(order, range(size, len(order), size)), start=1):
                loss, positions = self._step(rows), int(self.windows.targets[rows].sum())
                advice = f"lower retriever.learning_rate, which is {self.config.learning_rate:g}."
                require_finite(loss, "The retriever's loss", f"at step {step} of epoch {number}", advice)
                total += loss
                progress.update(positions)
        hit_rate, ndcg = self._validate()
        record = {"epoch": number, "loss": total / int(self.windows.targets.sum()), "hit_rate": hit_rate, "ndcg": ndcg}
        self.log.records.append(record | {"seconds": before + time.perf_counter() - began})
        self.log.keep_if_best(self.averages, hit_rate, ndcg)

    def _step(self, rows: np.ndarray) -> float:
        """Take one optimiser step on some windows; return the sum of their losses."""
        seed, retriever = int(torch.randint(2**31, ())), self.retriever
        items, is_target = (part.to(self.device) for part in self.windows.batch(rows))
        samples = len(retriever.events) > self.config.full_softmax_items
        self.optimizer.zero_grad()
        with seeded(seed, self.device):
            if samples:
                sampled, log_inclusion = draw_items(retriever.events, self.config.sampled_items)
                every = torch.cat([items.flatten(), sampled])
                present, places = distinct_indices(every, len(retriever.events))
                places, sampled = places[: items.numel()].view_as(items), places[items.numel() :]
            else:
                present, places = torch.arange(len(retriever.events), device=self.device), items
            vectors = retriever.item_vectors(present)
        states, targets = self._states(vectors, places, is_target, seed)
        if samples:
            same = targets.unsqueeze(1) == sampled
            loss = sampled_cross_entropy(states, vectors[targets], vectors[sampled], same, log_inclusion)
        else:
            loss = full_cross_entropy(states, vectors, targets)
        (loss / is_target.sum()).backward()
        self.group.sum_gradients(retriever.parameters())
        self.optimizer.step()
        for name, average in self.averages.items():
            average.data.lerp_(self.weights[name].detach(), 1 - self.config.average_decay)
        return self.group.sum(loss.detach()).item()

    def _states(self, vectors: Tensor, places: Tensor, is_target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the states before the targets of this process's parts, and the targets' places among the vectors.

        Windows of similar length share a part, to reduce padding.
        """
        by_length = is_target.sum(dim=1).argsort(stable=True)
        states, targets = [vectors[:0]], [places[:0, 0]]
        for part, rows in enumerate(by_length.tensor_split(self.config.batch_parts)):
            if len(rows) and part % self.group.size == self.group.rank:
                inside = is_target[rows, : int(is_target[rows[-1]].sum())]
                seen = functional.embedding(places[rows, : inside.shape[1]], vectors)
                with seeded(seed + 1 + part, self.device):
                    states.append(self.retriever(seen)[inside])
                targets.append(places[rows, 1 : inside.shape[1] + 1][inside])
        return torch.cat(states), torch.cat(targets)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Return hit rate and NDCG of the validation likes; the target ranks last among equal scores."""
        target_scores = np.array_split(np.arange(self.likes.height), self.group.size)[self.group.rank]
        likes = self.likes[target_scores]
        target = torch.from_numpy(likes["item_index"].to_numpy().astype(np.int64)).to(self.device)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        reader = RetrieverReader(self.average, self.interactions)
        for rows, scores in reader.blocks(likes, likes["history_end"].to_numpy()):
            rank = (scores >= scores.gather(1, target[rows, None])).sum(dim=1)
            hit = (rank <= CUTOFF).double()
            sums += torch.stack([hit.sum(), (hit / torch.log2(1 + rank)).sum()])
        hit_rate, ndcg = (self.group.sum(sums) / self.likes.height).tolist()
        return hit_rate, ndcg

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = training_tensors(self.weights, self.optimizer, averages=self.averages, best=self.log.best)
        return tensors, self.log.values()

    def restore(self, checkpoint: Checkpoint) -> None:
        groups = restore_training(checkpoint, self.weights, self.optimizer)
        self.average.load_state_dict(groups["averages"], strict=False)
        best = {name: tensor.to(self.device) for name, tensor in groups["best"].items()}
        self.log.restore(checkpoint.values, best)
        if self.group.rank == 0:
            done = "has all its epochs" if self.ended else f"continues at epoch {len(self.log.records) + 1}"
            logger.info("The retriever's training %s, from the checkpoint %s", done, checkpoint.file)


def full_cross_entropy(states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the softmax over all items, (items, dim), summed over states, (n, dim).

    The gradient is computed with the loss, a block of rows at a time, so that no logits are kept.

    Examples:
        >>> states, vectors = torch.eye(3), torch.eye(3)
        >>> full_cross_entropy(states, vectors, torch.tensor([0, 1, 0]))
        tensor(2.6543)
    """
    return _FullCrossEntropy.apply(states, vectors, targets)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
        loss = states.new_zeros(())
        states_gradient, vectors_gradient = torch.empty_like(states), torch.zeros_like(vectors)
        rows = min(max(1, len(states)), max(1, LOGITS_AT_ONCE // len(vectors)))
        scratch = states.new_empty(rows, len(vectors))  # a fresh block of memory each time takes as long as the product
        for first in range(0, len(states), rows):
            part, target = states[first : first + rows], targets[first : first + rows].unsqueeze(-1)
            logits = torch.mm(part, vectors.T, out=scratch[: len(part)])
            logits -= logits.amax(dim=1, keepdim=True)
            target_logits = logits.gather(1, target)
            total = logits.exp_().sum(dim=1, keepdim=True)
            loss += (total.log() - target_logits).sum()
            gradient = logits.div_(total).scatter_add_(1, target, torch.full_like(target_logits, -1.0))
            torch.mm(gradient, vectors, out=states_gradient[first : first + rows])
            vectors_gradient.addmm_(gradient.T, part)
        ctx.save_for_backward(states_gradient, vectors_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states_gradient, vectors_gradient = ctx.saved_tensors
        return states_gradient * gradient, vectors_gradient * gradient, None


def sampled_cross_entropy(states: Tensor, own: Tensor, sampled: Tensor, same: Tensor, log_inclusion: Tensor) -> Tensor:
    """Return the sum over n states of the cross-entropy of each target against m sampled items, corrected for sampling.

    Each sampled item's exponential is divided by its inclusion probability, so that their sum is an unbiased estimate
    of the sum over the catalogue (Bengio and Senécal 2008).
    `own` are vectors of the targets, (n, dim), as states are, `sampled` those of distinct sampled items, (m, dim), and
    `log_inclusion`, (m,), logs of their inclusion probabilities; `same`, (n, m), says where a sampled item is the
    state's target, which must not count twice.
    """
    logits = (states @ sampled.T - log_inclusion).masked_fill(same, -torch.inf)
    logits = torch.cat([(states * own).sum(dim=1, keepdim=True), logits], dim=1)
    return functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="sum"
    )


def draw_items(events: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Draw items with replacement, half of them uniformly, half in proportion to their training events, shape (items,).

    The distinct items are in ascending order, and come with the logs of their inclusion probabilities.
    """
    shares = 0.5 / len(events) + 0.5 * events / events.sum()
    items = torch.multinomial(shares, draws, replacement=True).unique()
    return items, torch.log(-torch.expm1(draws * torch.log1p(-shares[items].double()))).float()
