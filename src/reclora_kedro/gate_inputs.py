"""Inputs of an adapter's gates, as one object from the lens to the scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor


@dataclass(frozen=True)
class GateInputs:
    """States of the frozen lens for n samples, and the lens's own logits of them.

    Examples:
        >>> inputs = GateInputs(torch.tensor([5, 3]), "target", torch.eye(2), torch.zeros(2))
        >>> GateInputs.from_bytes(inputs.to_bytes()).take([1])
        GateInputs(rows=tensor([3]), name='target', values=tensor([[0., 1.]]), lens_logits=tensor([0.]))
    """

    rows: Tensor  # numbers of the samples, int64, shape (n,)
    name: str  # kind of the state, such as ``target`` or ``user``
    values: Tensor  # the states, float32, shape (n, gate_dim)
    lens_logits: Tensor  # the lens's logits, float32, shape (n,), which a blend averages with the LLM's

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def take(self, places: Sequence[int] | np.ndarray) -> Self:
        return replace(self, rows=self.rows[places], values=self.values[places], lens_logits=self.lens_logits[places])

    def to(self, device: torch.device) -> Self:
        moved = {name: getattr(self, name).to(device) for name in ("rows", "values", "lens_logits")}
        return replace(self, **moved)

    def to_bytes(self) -> bytes:
        """Return a safetensors file with the tensors by name, and ``name`` in its metadata."""
        tensors = {"rows": self.rows, "values": self.values, "lens_logits": self.lens_logits}
        return save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"name": self.name})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return cls(name=header["__metadata__"]["name"], **load(content))
