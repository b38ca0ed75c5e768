"""How the gradients of a training are made: the mean over a step's examples, unless an extension makes them."""

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
    """The gradients of one training: those of the mean loss over the examples of each step.

    Attributes:
        steps: numbers of the examples of each step.
    """

    steps: list[np.ndarray]

    def set(
        self, chosen: np.ndarray, weights: list[Tensor], mean_gradient: Callable[..., Tensor], group: Group
    ) -> Tensor:
        """Give the weights the gradient of a step.

        Args:
            chosen: numbers of the step's examples.
            weights: the trained weights.
            mean_gradient: gives the weights the gradient of the mean loss over some of the examples, and returns their
                losses on the weights' device; with ``group``, its processes share the work.
            group: the processes that train together.

        Returns:
            Loss of each of the examples, shape (chosen,).
        """
        return mean_gradient(chosen, group=group)

    def measure(self, step: int) -> dict[str, float | None]:
        """The values of `GradientMaker.measures` after a number of steps, for the training log."""
        return {}


class GradientMaker(ExtensionBlock):
    """Settings of how gradients are made; as it stands here, the way that a training takes without an extension.

    Another one is a subclass in a module of a package, see `training.GRADIENT_MAKERS`.
    """

    block: ClassVar[str]
    """Name of its block in `training`."""

    keeps_last: ClassVar[bool] = False
    """Whether the last weights are kept, since those of the best validation must not be chosen."""
    trains_once: ClassVar[str | None] = None
    """Why an adapter that was trained so must not be trained further, as a clause; None where it may."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Columns that it adds to the training log."""

    kind: str = "none"

    @property
    def is_on(self) -> bool:
        """Whether it makes the gradients."""
        return self.kind != "none"

    def require(self, variant: "VariantConfig") -> None:
        """Refuse a variant whose other settings do not go with such gradients.

        Raises:
            ValueError: they do not; the message says what to set.
        """

    def require_ready(self) -> None:
        """Refuse to begin where something is missing that these gradients need, such as a package.

        Raises:
            ImportError: a package is not installed.
        """

    def gradients(self, examples: Examples, config: "TrainingConfig", group: Group) -> Gradients:
        """The gradients of a training on some examples; each epoch has all of them in an order drawn by the seed."""
        generator = np.random.default_rng(config.seed)
        size = max(1, config.batch_size // examples.prompts_each)
        epochs = [shuffled_batches(examples.lengths, size, generator) for _ in range(config.epochs)]
        return Gradients([chosen for epoch in epochs for chosen in epoch])
