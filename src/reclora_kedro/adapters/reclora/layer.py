"""The algebra of the personalized LoRA: one linear layer, N meta-LoRAs, and weights over them."""

import math
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from reclora_kedro.adapters.reclora.config import RecLoraConfig


def personalized_update(
    x: Tensor, A: Tensor, B: Tensor, weights: Tensor | None, composition: str, scaling: float
) -> Tensor:
    """What the mixed LoRA adds to a layer's output, without ever forming a matrix per sample.

    With ``z_k = A_k x``: ``sum_of_products`` is Σ α_k B_k z_k; ``product_of_sums`` first mixes z = Σ α_k z_k and
    then adds Σ α_k B_k z. Both are two plain matrix products with the stacked A (N·r × in) and B (out × N·r).

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
    N, r, _ = A.shape
    z = F.linear(x, A.flatten(0, 1).to(x.dtype))
    if weights is not None:
        alpha = weights.to(x.dtype).repeat_interleave(r, dim=1).view(len(x), *[1] * (x.dim() - 2), N * r)
        z = alpha * z
        if composition == "product_of_sums":  # sum over the N meta-LoRAs, and hand each of them the sum
            z = alpha * (z @ torch.eye(r).repeat(N, N).to(z))
    return F.linear(z, (B.flatten(1) * scaling).to(x.dtype))


class RecLoraLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with meta-LoRAs per adapter name.

    Weights stay in float32 for the optimiser and are cast to the input's type where they meet it. ``gate_weights``,
    shape (batch, N) per adapter name, are set by :meth:`RecLoraModel.lens_context` around each forward pass.
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
        self.configs[adapter_name] = config
        A = torch.empty(config.num_meta_loras, config.r, linear.in_features)
        for A_k in A:
            nn.init.kaiming_uniform_(A_k, a=math.sqrt(5))
        B = torch.zeros(linear.out_features, config.num_meta_loras, config.r)
        device = next(linear.parameters()).device
        self.reclora_A[adapter_name] = nn.Parameter(A.to(device))
        self.reclora_B[adapter_name] = nn.Parameter(B.to(device))
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus each active adapter's update, shape (batch, ..., out).

        Raises:
            ValueError: an active adapter needs lens states, and none were given.
        """
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.reclora_A:
                config = self.configs[name]
                if config.num_meta_loras > 1 and name not in self.gate_weights:
                    raise ValueError(
                        f"The adapter {name!r} routes {config.num_meta_loras} meta-LoRAs by lens states, but none were "
                        f"given: call the model with lens_states=h, h of shape (batch, {config.lens_dim})."
                    )
                result = result + personalized_update(
                    x,
                    self.reclora_A[name],
                    self.reclora_B[name],
                    self.gate_weights.get(name),
                    config.composition,
                    config.lora_alpha / config.r,
                )
        return result
