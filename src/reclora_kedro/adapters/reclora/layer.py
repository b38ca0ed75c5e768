"""The algebra of the personalized LoRA: one linear layer, N meta-LoRAs, one gate."""

import math
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from reclora_kedro.adapters.reclora.config import RecLoraConfig


class StateScaler(nn.Module):
    """Standardises lens states as a whole: each unit less its mean, all divided by one scale; at first, the identity.

    A lens's last hidden layer varies almost along one line, the one its logit reads. A scale of its own for each unit,
    or a LayerNorm of each state, would blow up the little variation beside that line and drop the state's length.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, lens_dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(lens_dim))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, lens_states: Tensor) -> None:
        """Make these states, shape (rows, lens_dim), have mean zero and, over all units together, variance one."""
        self.center.copy_(lens_states.mean(dim=0))
        spread = (lens_states.to(self.center) - self.center).square().mean().sqrt()
        self.scale.copy_(torch.where(spread > 0, spread, 1.0))

    def forward(self, lens_states: Tensor) -> Tensor:
        """The states standardised, shape (batch, lens_dim)."""
        return (lens_states - self.center) / self.scale


class Gate(nn.Sequential):
    """Routing logits over the meta-LoRAs from lens states, ``(batch, lens_dim)`` to ``(batch, N)``.

    ``g(h) = Linear(ReLU(Linear(norm(h))))`` with dropout before the last layer (RecLoRA, section 3.3, where the norm
    is a LayerNorm).
    """

    def __init__(self, config: RecLoraConfig) -> None:
        assert config.lens_dim is not None
        super().__init__(
            StateScaler(config.lens_dim) if config.state_norm == "standard" else nn.LayerNorm(config.lens_dim),
            nn.Linear(config.lens_dim, config.gate_hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.gate_dropout),
            nn.Linear(config.gate_hidden_dim, config.num_meta_loras),
        )


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
    """A frozen linear layer with meta-LoRAs and a gate per adapter name.

    Weights stay in float32 for the optimiser and are cast to the input's type where they meet it.
    ``lens_states``, shape (batch, lens_dim), is set by :meth:`RecLoraModel.lens_context` around each forward pass.
    """

    adapter_layer_names = ("reclora_A", "reclora_B", "reclora_gate")
    other_param_names = ("configs",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: RecLoraConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.configs: dict[str, RecLoraConfig] = {}
        self.reclora_A = nn.ParameterDict()
        self.reclora_B = nn.ParameterDict()
        self.reclora_gate = nn.ModuleDict()
        self.lens_states: Tensor | None = None
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: RecLoraConfig) -> None:
        """Add an adapter: A kaiming-uniform, B zero, so that the layer starts out unchanged."""
        linear = self.get_base_layer()
        self.configs[adapter_name] = config
        A = torch.empty(config.num_meta_loras, config.r, linear.in_features)
        for A_k in A:
            nn.init.kaiming_uniform_(A_k, a=math.sqrt(5))
        self.reclora_A[adapter_name] = nn.Parameter(A)
        self.reclora_B[adapter_name] = nn.Parameter(torch.zeros(linear.out_features, config.num_meta_loras, config.r))
        if config.num_meta_loras > 1:
            self.reclora_gate[adapter_name] = Gate(config)
        device = next(linear.parameters()).device
        for parts in (self.reclora_A, self.reclora_B, self.reclora_gate):
            parts.to(device)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def gate_weights(self, adapter_name: str) -> Tensor | None:
        """Soft routing weights ``softmax(g(h) / temperature)``, shape (batch, N); None when N is 1.

        Raises:
            ValueError: lens states are missing, or their width is not the adapter's ``lens_dim``.
        """
        config = self.configs[adapter_name]
        if config.num_meta_loras == 1:
            return None
        if self.lens_states is None:
            raise ValueError(
                f"The adapter {adapter_name!r} routes {config.num_meta_loras} meta-LoRAs by lens states, but none were "
                f"given: call the model with lens_states=h, h of shape (batch, {config.lens_dim})."
            )
        if self.lens_states.shape[-1] != config.lens_dim:
            raise ValueError(
                f"The adapter {adapter_name!r} was made for lens states of width {config.lens_dim}, but got states of "
                f"shape {tuple(self.lens_states.shape)}: use the lens and the gate input it was trained with."
            )
        logits = self.reclora_gate[adapter_name](self.lens_states)
        return torch.softmax(logits / config.temperature, dim=-1)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus each active adapter's update, shape (batch, ..., out)."""
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.reclora_A:
                config = self.configs[name]
                result = result + personalized_update(
                    x,
                    self.reclora_A[name],
                    self.reclora_B[name],
                    self.gate_weights(name),
                    config.composition,
                    config.lora_alpha / config.r,
                )
        return result
