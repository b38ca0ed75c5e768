"""States and logits of samples by a frozen lens, and current states of users."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.devices import choose_device
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import MOST_VALUES
from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader


class LensReader:
    """Reads samples of a log with a frozen lens, on `lens.config.device`.

    With `tabulate`, `logits` precomputes the vectors of all items, even if it needs few.
    """

    def __init__(self, lens: Lens, log: InteractionLog, tabulate: bool = False) -> None:
        self._tabulate = tabulate
        self._device = choose_device(lens.config.device)
        self._lens, self._loader = lens.to(self._device), LensLoader(log, lens)

    def prepare(self) -> Self:
        """Make what the first samples would wait for."""
        _ = self._loader.rating_statistics
        return self

    def __getstate__(self) -> dict[str, Any]:
        self.prepare()  # once, and not wherever this is read
        state = {name: value for name, value in vars(self).items() if name != "_lens_of_items"}
        if self._device.type != "cpu":
            state["_lens"] = deepcopy(self._lens).cpu()  # whoever reads this may have no GPU
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._device = choose_device(self._lens.config.device)
        self._lens.to(self._device)

    def with_log(self, log: InteractionLog) -> Self:
        """Return a reader of another log of the same users and items, with the same lens."""
        reader = type(self).__new__(type(self))  # as `copy` takes what is handed to other processes
        vars(reader).update(vars(self), _loader=self._loader.with_log(log))
        return reader

    def states(self, samples: pl.DataFrame) -> dict[str, Tensor]:
        """Return float32 states of samples by kind, (n, state_dims[kind]), and ``logit``, (n,), all on the CPU.

        Samples have the columns user_index, item_index, history_end and timestamp.
        """
        lens, batches = self._lens, self._loader.batches(samples, SCORING_BATCH_SIZE)
        parts = [_describe(lens, batch.to(self._device)) for _, batch in batches]
        nothing = {kind: torch.empty(0, width) for kind, width in lens.state_dims.items()} | {"logit": torch.empty(0)}
        return {kind: torch.cat([empty, *(part[kind] for part in parts)]) for kind, empty in nothing.items()}

    @torch.inference_mode()
    def logits(self, samples: pl.DataFrame) -> Tensor:
        """Return the logits of samples, float32 on the CPU, (n,), in less time and memory than `states`.

        Work that samples of one moment share is done once: logits differ from those of `states` by rounding.
        """
        logits = torch.empty(samples.height)
        for places, batch in self._loader.batches_by_moment(samples, SCORING_BATCH_SIZE):
            looks_up = self._tabulate or len(batch.user) < len(batch.item)
            lens = self._lens_of_items if looks_up else self._lens
            logits[places] = lens(batch.to(self._device)).cpu()
        return logits

    @cached_property
    def _lens_of_items(self) -> Lens:
        lens = deepcopy(self._lens)
        lens.item.tabulate()
        return lens


def lens_states(
    lens: Lens, log: InteractionLog, questions: pl.DataFrame, engine: EngineConfig = LOCAL
) -> dict[str, Tensor]:
    """Compute the states of questions or samples, see `LensReader.states` and `states_of_questions`."""
    shards = [questions[rows] for rows in engine.shards(questions.height)]
    read = OncePerWorker(partial(_reading, lens, replace(log, samples=log.samples.clear())))
    parts = list(map_shards(read, shards, engine, "lens states"))
    return states_of_questions({kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}, questions)


def states_of_questions(states: dict[str, Tensor], questions: pl.DataFrame) -> dict[str, Tensor]:
    """Return the states of questions with their ``row``, int64, shape (n,).

    Questions of one moment get the same state of kind `user` to the last bit, so that their prompts can share a prefix.
    """
    if "user" in states:
        states["user"] = states["user"][first_of_moment(questions)]
    return {"row": questions["row"].cast(pl.Int64).to_torch()} | states


def first_of_moment(questions: pl.DataFrame) -> np.ndarray:
    """Return for each question the place of the first one of its moment, shape (n,).

    Examples:
        >>> first_of_moment(pl.DataFrame({"user_index": [3, 3, 1], "history_end": [9, 9, 4], "timestamp": [7, 7, 7]}))
        array([0, 0, 2])
    """
    places = questions.select(MOMENT).with_row_index("place").select(pl.col("place").first().over(MOMENT))
    return places.to_series().cast(pl.Int64).to_numpy(writable=True)


def _reading(lens: Lens, log: InteractionLog) -> Callable[[pl.DataFrame], dict[str, Tensor]]:
    return LensReader(lens, log).states


def lens_scores(states: dict[str, Tensor]) -> np.ndarray:
    """Return the probability of a like of each sample, float64, shape (n,)."""
    return torch.sigmoid(states["logit"].double()).numpy()


@torch.inference_mode()
def _describe(lens: Lens, batch: LensBatch) -> dict[str, Tensor]:
    """Compute the states of every kind, and ``logit``, on the CPU."""
    fields = lens.states(batch, "fields")
    target = lens.interact(fields)
    states = {"fields": fields, "target": target, "logit": lens.output(target).squeeze(-1)}
    states |= {kind: lens.states(batch, kind) for kind in lens.state_dims if kind not in states}
    return {kind: state.cpu() for kind, state in states.items()}


@torch.inference_mode()
def user_states(lens: Lens, log: InteractionLog, user_index: np.ndarray) -> Tensor:
    """Compute states of kind `user` after all events of each user: float32 on the CPU, (n, state_dims["user"])."""
    pairs = pl.DataFrame({"user_index": user_index}).with_columns(item_index=0)  # a user state depends on no item
    device = choose_device(lens.config.device)
    lens.to(device)
    batches = LensLoader(log, lens, targets=False).batches(log.now(pairs), SCORING_BATCH_SIZE)
    return torch.cat([lens.states(batch.to(device), "user").cpu() for _, batch in batches])


def gate_inputs(states: dict[str, Tensor], kind: str) -> GateInputs:
    """Select the states of a kind that gates read, and logits, from `lens_states`; raise ValueError for an absent kind.

    Examples:
        >>> gate_inputs({"row": torch.tensor([5]), "logit": torch.zeros(1), "target": torch.ones(1, 2)}, "target")
        GateInputs(rows=tensor([5]), name='target', values=tensor([[1., 1.]]), lens_logits=tensor([0.]))
    """
    if kind not in states:
        kinds = sorted(states.keys() - {"row", "logit"})
        raise ValueError(
            f"gate_input is {kind!r}, but the lens has the states {', '.join(kinds)}: change gate_input, lens.model or "
            f"lens.rating_statistics. Fields have one if 1 to {MOST_VALUES} of their values are frequent enough, see "
            "lens.field_min_count."
        )
    return GateInputs(states["row"], kind, states[kind], states["logit"])
