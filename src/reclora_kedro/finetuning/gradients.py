"""Gradients of a training: those of the mean loss over a step's examples, unless an extension replaces them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from reclora_kedro.distributed.group import Group
from reclora_kedro.extensions import ExtensionBlock
from reclora_kedro.finetuning.examples import Examples
from reclora_kedro.llm.batching import shuffled_batches

if TYPE_CHECKING:
    from reclora_kedro.finetuning.training import TrainingConfig
    from reclora_kedro.finetuning.variants import VariantConfig


@dataclass(frozen=True)
class Gradients:
    """Gradients of the mean loss over the examples of each step; `steps` has the numbers of these examples."""

    steps: list[np.ndarray]

    def set(
        self, chosen: np.ndarray, weights: list[Tensor], mean_gradient: Callable[..., Tensor], group: Group
    ) -> Tensor:
        """Set the gradient of a step on the weights, and return the losses of its examples, shape (chosen,).

        Args:
            mean_gradient: sets the gradient of the mean loss over some of the examples on the weights, and returns
                their losses on the weights' device; with ``group``, its processes share the work.
        """
        return mean_gradient(chosen, group=group)

    def measure(self, step: int) -> dict[str, float | None]:
        """Return the values of `GradientMaker.measures` after a number of steps, for the training log."""
        return {}


class GradientMaker(ExtensionBlock):
    """Settings of a gradient maker; this base class makes ordinary gradients.

    Extensions subclass it in a module of their own, see `training.GRADIENT_MAKERS`.
    """

    block: ClassVar[str]
    """Name of the settings' block in `training`."""

    keeps_last: ClassVar[bool] = False
    """Whether the last weights are kept instead of those of the best validation."""
    trains_once: ClassVar[str | None] = None
    """Reason, as a clause, why such an adapter must not be trained further; None if it may."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Columns added to the training log."""

    kind: str = "none"

    @property
    def is_on(self) -> bool:
        return self.kind != "none"

    def require(self, variant: "VariantConfig") -> None:
        """Raise ValueError for a variant whose other settings contradict such gradients."""

    def require_ready(self) -> None:
        """Raise ImportError if a needed package is not installed."""

    def gradients(self, examples: Examples, config: "TrainingConfig", group: Group) -> Gradients:
        """Return the gradients of a training; each epoch has all examples in an order drawn by the seed."""
        generator = np.random.default_rng(config.seed)
        size = max(1, config.batch_size // examples.prompts_each)
        epochs = [shuffled_batches(examples.lengths, size, generator) for _ in range(config.epochs)]
        return Gradients([chosen for epoch in epochs for chosen in epoch])
