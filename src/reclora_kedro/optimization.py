"""What all training loops share: records, the weights of the best validation, patience, and checks of numbers."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class TrainingLog:
    """Records of a training, and the weights of its best validation, which are empty before the first one.

    Examples:
        >>> log, weights = TrainingLog(patience=1), {"w": torch.zeros(1)}
        >>> for auc in (0.7, 0.6):
        ...     log.keep_if_best(weights, auc)
        >>> log.score, log.is_over
        ((0.7,), True)
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience  # validations without a better score before the training ends; None: it never does
        self.records: list[dict[str, Any]] = []  # one per epoch, step or validation, in the order of the training
        self.best: dict[str, Tensor] = {}  # copy of the weights of the best validation by name
        self.score: tuple[float, ...] = ()  # numbers of that validation, of which later ones break ties
        self.validations_since_best = 0

    def keep_if_best(
        self, weights: Mapping[str, Tensor], *score: float, keep_last: bool = False, least_gain: float = 0.0
    ) -> None:
        """Count a validation, and copy the weights if its score is the best so far; with `keep_last`, in any case.

        Its first number has to be higher than that of the best one by `least_gain`.
        """
        self.validations_since_best += 1
        best = [each + least_gain * (place == 0) for place, each in enumerate(self.score)]
        if keep_last or ([*score] > best and not any(map(math.isnan, score))):
            self.best, self.score, self.validations_since_best = copy_of(weights), score, 0

    @property
    def is_over(self) -> bool:
        """Whether the validations have stopped improving."""
        return self.patience is not None and self.validations_since_best >= self.patience

    def values(self) -> dict[str, Any]:
        """Return the JSON values for a checkpoint, which keeps `best` among its tensors."""
        return {"records": self.records, "score": self.score, "validations_since_best": self.validations_since_best}

    def restore(self, values: Mapping[str, Any], best: dict[str, Tensor]) -> None:
        """Continue from the values and the best weights in a checkpoint."""
        self.records, self.validations_since_best = values["records"], values["validations_since_best"]
        self.score, self.best = tuple(values["score"]), best


def require_finite(values: Tensor | float, subject: str, place: str, advice: str) -> None:
    """Raise FloatingPointError if one of the values, such as losses or logits, is not finite.

    Examples:
        >>> require_finite(float("nan"), "The loss", "at step 3", "lower the learning rate.")
        Traceback (most recent call last):
        ...
        FloatingPointError: The loss is nan at step 3: lower the learning rate.
    """
    tensor = torch.as_tensor(values).flatten()
    broken = tensor[~tensor.isfinite()]
    if len(broken):
        raise FloatingPointError(f"{subject} is {broken[0].item()} {place}: {advice}")


def copy_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def assign(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Set weights by name in place; those without a value stay unchanged."""
    for name, value in values.items():
        weights[name].copy_(value)
