"""What a training step learns from: examples, and the objectives that make them of the few-shot rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import polars as pl
import torch
from pydantic import PlainValidator
from torch import Tensor

from kedro_provenance.parameters import quoted_value
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.extensions import ExtensionBlock, Registry
from reclora_kedro.histories.questions import PromptRowsConfig
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet

if TYPE_CHECKING:
    from reclora_kedro.finetuning.variants import VariantConfig


@dataclass(frozen=True)
class Examples(ABC):
    """Prompts to learn from, the same number for each example, and the loss of each example.

    Attributes:
        prompts: the prompts of the first example, then those of the second one, and so on.
        users: the user of each example, shape (examples,); None where no gradient maker reads it.
    """

    prompts: PromptSet
    users: np.ndarray | None = None
    prompts_each: ClassVar[int] = 1
    """Prompts per example."""

    def __len__(self) -> int:
        return len(self.prompts.labels) // self.prompts_each

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, its prompts padded to the longest one: shape (examples,)."""
        return self.prompts.lengths.reshape(len(self), -1).max(axis=1) * self.prompts_each

    def places(self, examples: np.ndarray) -> np.ndarray:
        """Places of the prompts of some examples, shape (n, prompts_each)."""
        return examples[:, None] * self.prompts_each + np.arange(self.prompts_each)

    def batch(self, examples: np.ndarray, device: torch.device) -> PromptBatch:
        """The prompts of some examples, padded."""
        return self.prompts.batch(self.places(examples).ravel(), device)

    def outputs(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        """What losses read of the prompts of some examples, shape (n · prompts_each, ...): the logits of the answers.

        Args:
            model: the model that is trained.
            batch: the prompts of these examples, see :meth:`batch`; gates read their inputs already.
            examples: numbers of the examples, shape (n,).
        """
        return model.llm_logits(batch)

    @abstractmethod
    def losses(self, outputs: Tensor, examples: np.ndarray) -> Tensor:
        """Losses of some examples, shape (n,), by the :meth:`outputs` of their prompts."""


Train = Callable[[Examples, CheckpointStore | None], pl.DataFrame]
"""Trains the adapter of a model on examples and returns the training log, see `processes.fine_tune`."""


CLICK = "click"


class Objective(ExtensionBlock):
    """What an adapter learns from, the block `training.objective` of a variant; each kind is a subclass."""

    kind: str = CLICK

    @classmethod
    def inputs(cls, variant: str, names: Any) -> Mapping[str, Any]:
        """Catalog entries that a variant's training reads besides, each with the Kedro pipeline that makes it.

        Args:
            variant: its name.
            names: the `reclora_kedro.pipelines.names.PipelineNames` of the session.

        Raises:
            NameRefusedError: the objective names a variant that it cannot read.
        """
        return {}

    def require(self, variant: "VariantConfig") -> None:
        """Refuse a variant whose other settings do not go with this objective.

        Raises:
            ValueError: they do not; the message says what to set.
        """

    def require_questions(self, prompt_rows: PromptRowsConfig) -> None:
        """Refuse draws of questions that do not suffice for this objective.

        Raises:
            ValueError: they do not; the message says what to set.
        """

    def fine_tune(
        self,
        train: Train,
        model: AnswerModel,
        few_shot: PromptSet,
        questions: pl.DataFrame,
        tokens_per_batch: int,
        checkpoints: CheckpointStore | None,
        *inputs: Any,
    ) -> pl.DataFrame:
        """Train a model's fresh adapter in place.

        Args:
            train: trains on examples, with checkpoints in a store.
            model: a base LLM with a fresh adapter, which does not change its answers yet.
            few_shot: prompts of the few-shot rows, with gate inputs.
            questions: the few-shot rows, in the same order.
            tokens_per_batch: most tokens in a forward pass, padding included.
            checkpoints: where to keep checkpoints; None for nowhere.
            inputs: the content of the entries of :meth:`inputs`, in their order.

        Returns:
            The training log.
        """
        # Not abstract for mypy, as the registry looks subclasses up by this class.
        raise NotImplementedError(f"{type(self).__name__} must say how it trains: override fine_tune.")


OBJECTIVES = Registry("reclora_kedro.finetuning.objectives")
"""Modules that ``training.objective.kind`` names, each with its subclass of `Objective`."""


def read_objective(block: Any) -> Objective:
    """The objective in a block of parameters, of the class that its ``kind`` names.

    Raises:
        ValueError: there is no such kind, or a setting is none that it takes.
    """
    return block if isinstance(block, Objective) else objective_class(block).model_validate(block)


def objective_class(block: Any) -> type[Objective]:
    """The class of the objective in a block of parameters; that of clicks where it names no kind.

    Raises:
        ValueError: there is no such kind.
    """
    kind = block.get("kind", CLICK) if isinstance(block, Mapping) else CLICK
    if not isinstance(kind, str):
        raise ValueError(f"kind is {quoted_value(kind)}, but it should be a text, such as {CLICK}")
    return OBJECTIVES.load_class(kind, Objective)


ObjectiveField = Annotated[Objective, PlainValidator(read_objective)]
"""An objective of any kind, as a field of a pydantic model."""
