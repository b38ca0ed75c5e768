"""The algebra of the personalized LoRA: one linear layer, N meta-LoRAs, and weights over them."""

import math
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from reclora_kedro.adapters.reclora.config import RecLoraConfig


def personalized_update(
    x: Tensor, A: Tensor, B: Tensor, weights: Tensor | None, composition: str, scaling: float
) -> Tensor:
    """What the mixed LoRA adds to a layer's output, without ever forming a full matrix per sample.

    Args:
        x: layer input, shape (batch, ..., in).
        A: down projections, shape (N, r, in).
        B: up projections, shape (out, N, r).
        weights: gate weights, shape (batch, N); None when N is 1.
        composition: ``product_of_sums`` or ``sum_of_products``.
        scaling: ``lora_alpha / r``.

    Returns:
        The update, shape (batch, ..., out), in the type of ``x``.
    """
    down, up, alpha = mixed_factors(A, B, weights, composition, scaling, x.dtype)
    z = x.reshape(len(x), -1, x.shape[-1]) @ down.mT
    if alpha is not None:
        z = z * alpha[:, None]
    return (z @ up.mT).view(*x.shape[:-1], -1)


def mixed_factors(
    A: Tensor, B: Tensor, weights: Tensor | None, composition: str, scaling: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Matrices of which a sample's update is ``up diag(alpha) down x``.

    ``sum_of_products``, Σ α_k B_k A_k, stacks A and B once for all samples and scales between them: (N·r, in),
    (out, N·r) and (batch, N·r). ``product_of_sums``, (Σ α_k B_k)(Σ α_k A_k), mixes each sample's factors of rank r
    first, which is N times less work on its tokens: (batch, r, in), (batch, out, r) and None.
    """
    if weights is not None and composition == "product_of_sums":
        down = torch.einsum("bn,nri->bri", weights.to(A), A)
        up = torch.einsum("bn,onr->bor", weights.to(B) * scaling, B)
        return down.to(dtype), up.to(dtype), None
    alpha = None if weights is None else weights.to(dtype).repeat_interleave(A.shape[1], dim=1)
    return A.flatten(0, 1).to(dtype), (B.flatten(1) * scaling).to(dtype), alpha


class AdaptedLinear(torch.autograd.Function):
    """A frozen linear layer and its update in one step, ``W x + b + up diag(alpha) down x``.

    The update is added to the layer's own output, and its part of the input's gradient to the layer's, by the matrix
    products themselves: nothing as large as the input or the output is written twice.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, alpha: Tensor | None
    ) -> Tensor:
        """The output, shape (batch, tokens, out), for ``x`` of shape (batch, tokens, in); see :func:`mixed_factors`."""
        output = F.linear(x, weight, bias)
        z = x @ down.mT
        add_product(output, z if alpha is None else z * alpha[:, None], up.mT)
        ctx.save_for_backward(x, weight, down, up, alpha, z)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, the two factors and alpha; the layer itself is frozen."""
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
    """Add ``left @ right`` in place; ``right`` is one matrix for all samples, or one for each."""
    if right.dim() == 2:
        target.flatten(0, 1).addmm_(left.flatten(0, 1), right)
    else:
        target.baddbmm_(left, right)


def over_tokens(left: Tensor, right: Tensor, shared: bool) -> Tensor:
    """``leftᵀ right`` over all tokens together where the matrix is shared, or over each sample's."""
    return left.flatten(0, 1).mT @ right.flatten(0, 1) if shared else left.mT @ right


def is_plain(linear: nn.Module, x: Tensor) -> bool:
    """Whether a layer does no more than a frozen ``F.linear``: not quantised, hooked, autocast or trained."""
    return (
        type(linear) is nn.Linear
        and not linear.weight.requires_grad
        and (linear.bias is None or not linear.bias.requires_grad)
        and not (linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks)
        and "forward" not in vars(linear)
        and x.dtype == linear.weight.dtype
        and not torch.is_autocast_enabled(x.device.type)
    )


class RecLoraLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with meta-LoRAs per adapter name.

    Weights stay in float32 for the optimiser and are cast to the input's type where they meet it. ``gate_weights``,
    shape (batch, N) per adapter name, are set by :meth:`RecLoraModel.gate_context` around each forward pass.
    """

    adapter_layer_names = ("reclora_A", "reclora_B")
    other_param_names = ("configs",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: RecLoraConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.configs: dict[str, RecLoraConfig] = {}
        self.reclora_A = nn.ParameterDict()
        self.reclora_B = nn.ParameterDict()
        self.gate_weights: dict[str, Tensor] = {}
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: RecLoraConfig) -> None:
        """Add an adapter: A kaiming-uniform, B zero, so that the layer starts out unchanged."""
        linear = self.get_base_layer()
        inputs, outputs = (
            linear.weight.shape if isinstance(linear, Conv1D) else (linear.in_features, linear.out_features)
        )
        self.configs[adapter_name] = config
        A = torch.empty(config.num_meta_loras, config.r, inputs)
        for A_k in A:
            nn.init.kaiming_uniform_(A_k, a=math.sqrt(5))
        B = torch.zeros(outputs, config.num_meta_loras, config.r)
        device = next(linear.parameters()).device
        self.reclora_A[adapter_name] = nn.Parameter(A.to(device))
        self.reclora_B[adapter_name] = nn.Parameter(B.to(device))
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus each active adapter's update, shape (batch, ..., out).

        Raises:
            ValueError: an active adapter needs gate inputs, and none were given.
        """
        names = [] if self.disable_adapters else [name for name in self.active_adapters if name in self.reclora_A]
        if len(names) == 1 and is_plain(self.base_layer, x):
            tokens = x.reshape(len(x), -1, x.shape[-1])
            factors = mixed_factors(*self._parts(names[0]), x.dtype)
            output = AdaptedLinear.apply(tokens, self.base_layer.weight, self.base_layer.bias, *factors)
            return output.view(*x.shape[:-1], -1)
        output = self.base_layer(x, *args, **kwargs)
        for name in names:
            output = output + personalized_update(x, *self._parts(name))
        return output

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse what has no weights to be merged into.

        Raises:
            TypeError: always, as no single matrix is the update of all samples.
        """
        raise TypeError(
            "A personalized LoRA cannot be merged into the base LLM: its update differs from sample to sample. Write "
            "one user's LoRA with reclora_kedro.adapters.methods.user_loras, and merge that."
        )

    def _parts(self, name: str) -> tuple[Tensor, Tensor, Tensor | None, str, float]:
        """What :func:`mixed_factors` reads of an adapter."""
        config = self.configs[name]
        if config.num_meta_loras > 1 and name not in self.gate_weights:
            raise ValueError(
                f"The gates of the adapter {name!r} need inputs, but none were given: call the model with "
                f"gate_inputs=h, h of shape (batch, {config.gate_dim})."
            )
        weights, scaling = self.gate_weights.get(name), config.lora_alpha / config.r
        return self.reclora_A[name], self.reclora_B[name], weights, config.composition, scaling
