"""Examples of a training step, and the objectives that make them from few-shot rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import polars as pl
from pydantic import PlainValidator, SerializeAsAny

from kedro_provenance.errors import Parameter, quoted_value
from reclora_kedro.errors import require_both_classes
from reclora_kedro.extensions import ExtensionBlock, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from reclora_kedro.distributed.checkpoints import CheckpointStore
    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet


@dataclass(frozen=True)
class Examples(ABC):
    """Prompts of a training, equally many per example, and the loss of each example."""

    prompts: PromptSet  # those of the first example, then those of the second one, and so on
    users: np.ndarray | None = None  # of each example, shape (examples,); None if no training with privacy reads it
    prompts_each: ClassVar[int] = 1  # per example

    def __len__(self) -> int:
        return len(self.prompts.labels) // self.prompts_each

    @property
    def lengths(self) -> np.ndarray:
        """Return the tokens of each example with its prompts padded to the longest one: shape (examples,)."""
        return self.prompts.lengths.reshape(len(self), -1).max(axis=1) * self.prompts_each

    def places(self, examples: np.ndarray) -> np.ndarray:
        """Return the positions of the prompts of some examples, shape (n, prompts_each)."""
        return examples[:, None] * self.prompts_each + np.arange(self.prompts_each)

    def batch(self, examples: np.ndarray, device: torch.device) -> PromptBatch:
        return self.prompts.batch(self.places(examples).ravel(), device)

    @abstractmethod
    def losses(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        """Return losses of examples, shape (n,), from their prompts, whose gate inputs are in effect already."""


Train = Callable[[Examples, "CheckpointStore | None"], pl.DataFrame]
"""Function that trains a model's adapter on examples and returns the training log, see `training.fine_tune`."""


@dataclass(frozen=True)
class AdapterTask:
    """Inputs of an objective that trains an adapter."""

    train: Train
    model: AnswerModel  # a base LLM with a fresh adapter, which does not change its answers yet
    few_shot: PromptSet  # prompts of the few-shot rows, with gate inputs
    questions: pl.DataFrame
    tokens_per_batch: int
    checkpoints: CheckpointStore | None
    seed: int
    inputs: tuple[Any, ...] = ()  # contents of the entries of `Objective.inputs_from`, in their order


CLICK = "click"


def require_both_labels(prompts: pl.DataFrame) -> None:
    """Raise Fault if the rows that train, or those that validate, are all liked or all not."""
    for use in ("few_shot", "validation"):
        labels = prompts.filter(use=use)["label"]
        require_both_classes(int(labels.sum()), len(labels), Parameter(f"history.prompt_rows.{use}"), "Draw more rows")


class Objective(ExtensionBlock):
    """Objective of an adapter's training, the block `training.objective` of a variant; each kind is a subclass.

    `inputs_from` is a ``module:function`` for what training reads besides the few-shot prompts, or None. The function
    takes the variant and the `PipelineNames`, and returns catalog entries, each with the pipeline that makes it. It
    raises NameRefusedError if the objective names a variant that it cannot read.
    """

    inputs_from: ClassVar[str | None] = None

    kind: str = CLICK  # name or dotted path of the module

    def fine_tune(self, training: AdapterTask) -> pl.DataFrame:
        """Train a model's fresh adapter in place and return the training log."""
        # Not abstract for mypy, as the registry looks subclasses up by this class.
        raise NotImplementedError(f"{type(self).__name__} must say how it trains: override fine_tune.")


OBJECTIVES = Registry("reclora_kedro.finetuning.objectives")
"""Modules for the values of ``training.objective.kind``, each with a subclass of `Objective`."""


def read_objective(block: Any) -> Objective:
    """Return the objective in a block of parameters; raise ValueError for an unknown kind or setting."""
    return block if isinstance(block, Objective) else objective_class(block).model_validate(block)


def objective_class(block: Any) -> type[Objective]:
    """Return the class of an objective's ``kind``, `Click` if there is none; raise ValueError for an unknown one."""
    kind = block.get("kind", CLICK) if isinstance(block, Mapping) else CLICK
    if not isinstance(kind, str):
        raise ValueError(f"kind is {quoted_value(kind)}, but it should be a text, such as {CLICK}")
    return OBJECTIVES.load_class(kind, Objective)


ObjectiveField = Annotated[SerializeAsAny[Objective], PlainValidator(read_objective)]
"""Type of a pydantic field that holds an objective of any kind."""
