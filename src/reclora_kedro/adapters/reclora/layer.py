"""The algebra of the personalized LoRA: one linear layer, N meta-LoRAs, and weights over them."""

import math
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from reclora_kedro.adapters.reclora.config import RecLoraConfig


def personalized_update(
    output: Tensor, x: Tensor, A: Tensor, B: Tensor, weights: Tensor | None, composition: str, scaling: float
) -> Tensor:
    """A layer's output plus what the mixed LoRA adds to it, without ever forming a full matrix per sample.

    ``sum_of_products`` adds Σ α_k B_k A_k x: two plain matrix products with the stacked A (N·r × in) and B (out × N·r),
    z = A x scaled by α between them. ``product_of_sums`` adds (Σ α_k B_k)(Σ α_k A_k) x: each sample's factors of rank r
    are mixed first, which is N times less work on its tokens.

    Args:
        output: what the layer gives without an adapter, shape (batch, ..., out); overwritten where autograd is off.
        x: layer input, shape (batch, ..., in).
        A: down projections, shape (N, r, in).
        B: up projections, shape (out, N, r).
        weights: gate weights, shape (batch, N); None when N is 1.
        composition: ``product_of_sums`` or ``sum_of_products``.
        scaling: ``lora_alpha / r``.

    Returns:
        The adapted output, shape (batch, ..., out), in the type of ``x``.
    """
    recorded = torch.is_grad_enabled()
    if weights is not None and composition == "product_of_sums":
        down = torch.einsum("bn,nri->bri", weights.to(A), A).to(x.dtype)
        up = torch.einsum("bn,onr->bor", weights.to(B) * scaling, B).to(x.dtype)
        add = torch.baddbmm if recorded else Tensor.baddbmm_
        tokens, flat = x.reshape(len(x), -1, x.shape[-1]), output.reshape(len(x), -1, output.shape[-1])
        return add(flat, tokens @ down.mT, up.mT).view_as(output)
    z = F.linear(x, A.flatten(0, 1).to(x.dtype))
    if weights is not None:
        z = z * weights.to(x.dtype).repeat_interleave(A.shape[1], dim=1).view(len(x), *[1] * (x.dim() - 2), -1)
    add = torch.addmm if recorded else Tensor.addmm_
    return add(output.flatten(0, -2), z.flatten(0, -2), (B.flatten(1) * scaling).to(x.dtype).T).view_as(output)


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
                result = personalized_update(
                    result,
                    x,
                    self.reclora_A[name],
                    self.reclora_B[name],
                    self.gate_weights.get(name),
                    config.composition,
                    config.lora_alpha / config.r,
                )
        return result
