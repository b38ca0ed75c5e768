"""A frozen linear layer with a low-rank update per sample, the common part of personalized LoRAs."""

import math
from abc import abstractmethod
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D


class AdaptedLinear(torch.autograd.Function):
    """A frozen linear layer and its update as one autograd function, ``W x + b + up diag(alpha) down x``.

    The matrix products add the update to the layer's output, and its part of the input gradient to the layer's, in
    place: no second tensor as large as the input or the output is written.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, alpha: Tensor | None
    ) -> Tensor:
        """Return the output, shape (batch, tokens, out), for ``x`` of shape (batch, tokens, in), see `update`."""
        output = F.linear(x, weight, bias)
        z = x @ down.mT
        add_product(output, z if alpha is None else z * alpha[:, None], up.mT)
        ctx.save_for_backward(x, weight, down, up, alpha, z)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of the input, the two factors and alpha; the layer itself is frozen."""
        x, weight, down, up, alpha, z = ctx.saved_tensors
        z_gradient, alpha_gradient = gradient @ up, None
        if alpha is not None:
            alpha_gradient = (z_gradient * z).sum(dim=1)
            z, z_gradient = z * alpha[:, None], z_gradient * alpha[:, None]
        shared = down.dim() == 2
        down_gradient, up_gradient = over_tokens(z_gradient, x, shared), over_tokens(gradient, z, shared)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = gradient @ weight
            add_product(x_gradient, z_gradient, down)
        return x_gradient, None, None, down_gradient, up_gradient, alpha_gradient


def add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` in place; ``right`` is one matrix for all samples, or one per sample."""
    if right.dim() == 2:
        target.flatten(0, 1).addmm_(left.flatten(0, 1), right)
    else:
        target.baddbmm_(left, right)


def over_tokens(left: Tensor, right: Tensor, shared: bool) -> Tensor:
    """Return ``leftᵀ right``, summed over all tokens if the matrix is shared, else over each sample's tokens."""
    return left.flatten(0, 1).mT @ right.flatten(0, 1) if shared else left.mT @ right


def is_plain(linear: nn.Module, x: Tensor) -> bool:
    """Whether a layer is only a frozen ``F.linear``: not quantised, hooked, autocast or trained."""
    return (
        type(linear) is nn.Linear
        and not linear.weight.requires_grad
        and (linear.bias is None or not linear.bias.requires_grad)
        and not (linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks)
        and "forward" not in vars(linear)
        and x.dtype == linear.weight.dtype
        and not torch.is_autocast_enabled(x.device.type)
    )


class PersonalizedLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with a personalized LoRA per adapter name; methods define its weights.

    Weights stay in float32 for the optimiser and are cast to the input's type on use.
    :meth:`PersonalizedTuner.gate_context` sets ``gate_weights``, shape (batch, parts) per adapter name, around each
    forward pass.
    """

    other_param_names = ("configs",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: PeftConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.configs: dict[str, Any] = {}
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self.gate_weights: dict[str, Tensor] = {}
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    @abstractmethod
    def fresh_weights(self, inputs: int, outputs: int, config: Any) -> dict[str, Tensor]:
        """Return initial weights by the names in ``adapter_layer_names``; their update must be zero."""

    @abstractmethod
    def factors(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the factors of each sample's update ``up diag(alpha) down x``, from the weights and ``gate_weights``.

        Returns:
            ``down``, (rank, in) for all samples or (batch, rank, in), ``up``, (out, rank) or (batch, out, rank), and
            ``alpha``, (batch, rank) or None.
        """

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Add an adapter that leaves the layer's output unchanged."""
        linear = self.get_base_layer()
        inputs, outputs = (
            linear.weight.shape if isinstance(linear, Conv1D) else (linear.in_features, linear.out_features)
        )
        self.configs[adapter_name] = config
        device = next(linear.parameters()).device
        for name, weights in self.fresh_weights(inputs, outputs, config).items():
            getattr(self, name)[adapter_name] = nn.Parameter(weights.to(device))
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def has(self, adapter_name: str) -> bool:
        return adapter_name in self.configs and adapter_name in getattr(self, self.adapter_layer_names[0])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output plus active adapters' updates, (batch, ..., out); ValueError without gate input."""
        names = [] if self.disable_adapters else [name for name in self.active_adapters if self.has(name)]
        if len(names) == 1 and is_plain(self.base_layer, x):
            factors = self.factors(names[0], x.dtype)
            tokens = by_sample(x, *factors)
            output = AdaptedLinear.apply(tokens, self.base_layer.weight, self.base_layer.bias, *factors)
            return output.view(*x.shape[:-1], -1)
        output = self.base_layer(x, *args, **kwargs)
        for name in names:
            output = output + update(x, *self.factors(name, x.dtype))
        return output

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise TypeError, since no single matrix is the update of all samples."""
        raise TypeError(
            "A personalized LoRA cannot be merged into the base LLM: its update differs from sample to sample. Write "
            "one user's LoRA with reclora_kedro.adapters.methods.user_loras, and merge that."
        )

    def _weights_of_gates(self, name: str) -> Tensor:
        """Return an adapter's gate weights in this forward pass, shape (batch, parts)."""
        if name not in self.gate_weights:
            raise ValueError(
                f"The gates of the adapter {name!r} need inputs, but none were given: call the model with "
                f"gate_inputs=h, h of shape (batch, {self.configs[name].gate_dim})."
            )
        return self.gate_weights[name]


def by_sample(x: Tensor, down: Tensor, up: Tensor, alpha: Tensor | None) -> Tensor:
    """Return inputs, (batch, ..., in), with their tokens by sample, (batch, tokens, in).

    Some layers read all tokens of a batch in one row, (batch · tokens, in), such as OPT's MLP and shared experts.
    """
    samples = len(x)
    if x.dim() == 2 and (down.dim() == 3 or alpha is not None):
        samples = len(down if alpha is None else alpha)
    return x.reshape(samples, -1, x.shape[-1])


def update(x: Tensor, down: Tensor, up: Tensor, alpha: Tensor | None) -> Tensor:
    """Return the update, (batch, ..., out), of inputs, (batch, ..., in), without forming a full matrix per sample."""
    z = by_sample(x, down, up, alpha) @ down.mT
    if alpha is not None:
        z = z * alpha[:, None]
    return (z @ up.mT).view(*x.shape[:-1], -1)


def kaiming(*shape: int) -> Tensor:
    """Draw each matrix (last two axes) as PEFT initialises the down projection of a LoRA."""
    matrices = torch.empty(shape)
    for matrix in matrices.view(-1, *shape[-2:]):
        nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
    return matrices
