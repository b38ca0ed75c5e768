"""The personalized LoRA in PEFT: its configuration, its gates, the algebra of a layer, and the tuner of a base LLM."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reclora_kedro.adapters.reclora.settings import SETTINGS, RecLoraSettings
from reclora_kedro.adapters.tuner import PersonalizedConfig, PersonalizedLayer, PersonalizedTuner, kaiming, register


class RecLoraType(StrEnum):
    """PEFT's name of the method, like a member of its `PeftType`, whose value appears in its error messages."""

    RECLORA = "RECLORA"


@dataclass
class RecLoraConfig(RecLoraSettings, PersonalizedConfig):
    """PEFT configuration of a personalized LoRA: its settings and what it is trained on.

    Examples:
        >>> RecLoraConfig(num_meta_loras=8, gate_dim=128).composition
        'product_of_sums'
        >>> RecLoraConfig(num_meta_loras=8)
        Traceback (most recent call last):
        ...
        ValueError: gate_dim is None, but 8 meta-LoRAs are routed by gates: give the width of their inputs.
    """

    def __post_init__(self) -> None:
        PersonalizedConfig.__post_init__(self)
        self.peft_type = RecLoraType.RECLORA
        SETTINGS.validate_python({entry.name: getattr(self, entry.name) for entry in fields(RecLoraSettings)})
        if self.num_meta_loras > 1 and self.gate_dim is None:
            raise ValueError(
                f"gate_dim is None, but {self.num_meta_loras} meta-LoRAs are routed by gates: give the width of their "
                "inputs."
            )


class GateBank(nn.Module):
    """All G gates of an adapter in one module, so that a forward pass computes them in two matrix products.

    Gate g is ``softmax((W2 Dropout(ReLU(W1 norm(h) + b1)) + b2) / temperature)`` with weights of its own (RecLoRA,
    section 3.3). ``norm`` is the same for all gates; a LayerNorm goes without gain and bias, which W1 and b1 express.

    Weights are the weights of G ordinary linear layers, stacked: ``hidden_weight`` (G, hidden, gate_dim),
    ``hidden_bias`` (G, hidden), ``output_weight`` (G, N, hidden) and ``output_bias`` (G, N). ``center`` (gate_dim) and
    ``scale`` () standardise the inputs; they are the identity until :meth:`fit`.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, config: RecLoraConfig, gates: int) -> None:
        super().__init__()
        assert config.gate_dim is not None
        hidden, N = config.gate_hidden_dim, config.num_meta_loras
        self.config = config
        self.register_buffer("center", torch.zeros(config.gate_dim))
        self.register_buffer("scale", torch.ones(()))
        self.hidden_weight = linear_default(gates, hidden, config.gate_dim, fan_in=config.gate_dim)
        self.hidden_bias = linear_default(gates, hidden, fan_in=config.gate_dim)
        self.output_weight = linear_default(gates, N, hidden, fan_in=hidden)
        self.output_bias = linear_default(gates, N, fan_in=hidden)

    @torch.no_grad()
    def fit(self, gate_inputs: Tensor) -> None:
        """Standardise gate inputs (samples, gate_dim) to mean zero per unit and variance one over all units together.

        A lens's last hidden layer varies mostly along the direction that its logit reads. Scaling each unit separately,
        or a LayerNorm per input, would amplify the small variation in other directions and drop the input's norm. With
        a LayerNorm nothing is stored, since it reads each input on its own.
        """
        if self.config.gate_norm == "layer":
            return
        self.center.copy_(gate_inputs.mean(dim=0))
        spread = (gate_inputs.to(self.center) - self.center).square().mean().sqrt()
        self.scale.copy_(torch.where(spread > 0, spread, 1.0))

    def normalise(self, gate_inputs: Tensor) -> Tensor:
        if self.config.gate_norm == "layer":
            return F.layer_norm(gate_inputs, gate_inputs.shape[-1:])
        return (gate_inputs - self.center) / self.scale

    def forward(self, gate_inputs: Tensor) -> Tensor:
        """Return weights, which sum to one over the meta-LoRAs, from inputs (batch, gate_dim): shape (G, batch, N)."""
        gates, width, _ = self.hidden_weight.shape
        inputs = self.normalise(gate_inputs.to(self.center))
        hidden = F.linear(inputs, self.hidden_weight.flatten(0, 1), self.hidden_bias.flatten())
        hidden = F.dropout(F.relu(hidden), self.config.gate_dropout, self.training)
        hidden = hidden.view(-1, gates, width).transpose(0, 1)
        logits = torch.baddbmm(self.output_bias[:, None], hidden, self.output_weight.mT) / self.config.temperature
        if self.config.top_k is None:
            return torch.softmax(logits, dim=-1)
        greatest, index = logits.topk(self.config.top_k, dim=-1)
        return torch.zeros_like(logits).scatter(-1, index, torch.softmax(greatest, dim=-1))


def linear_default(*shape: int, fan_in: int) -> nn.Parameter:
    """Draw weights or biases as ``nn.Linear`` does: uniform within ±1 / √fan_in."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def gate_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of G gates as a share of log N, averaged over samples: weights (G, samples, N) to (G,).

    It is 1 for a plain average of the meta-LoRAs, 0 for one meta-LoRA per sample.

    Examples:
        >>> gate_entropy(torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]))
        tensor([1., 0.])
    """
    return torch.special.entr(weights).sum(dim=-1).mean(dim=-1) / math.log(weights.shape[-1])


def mixed_factors(
    A: Tensor, B: Tensor, weights: Tensor | None, composition: str, scaling: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the factors of each sample's update ``up diag(alpha) down x``.

    ``sum_of_products``, Σ α_k B_k A_k, stacks A and B once for all samples and scales between them: (N·r, in),
    (out, N·r) and (batch, N·r). ``product_of_sums``, (Σ α_k B_k)(Σ α_k A_k), mixes each sample's factors of rank r
    first, which is N times less work on its tokens: (batch, r, in), (batch, out, r) and None.

    A has the shape (N, r, in), B (out, N, r), the gate weights (batch, N), or None when N is 1; ``scaling`` is
    ``lora_alpha / r``.
    """
    if weights is not None and composition == "product_of_sums":
        down = torch.einsum("bn,nri->bri", weights.to(A), A)
        up = torch.einsum("bn,onr->bor", weights.to(B) * scaling, B)
        return down.to(dtype), up.to(dtype), None
    alpha = None if weights is None else weights.to(dtype).repeat_interleave(A.shape[1], dim=1)
    return A.flatten(0, 1).to(dtype), (B.flatten(1) * scaling).to(dtype), alpha


class RecLoraLayer(PersonalizedLayer):
    """A frozen linear layer with meta-LoRAs per adapter name."""

    adapter_layer_names = ("reclora_A", "reclora_B")

    def fresh_weights(self, inputs: int, outputs: int, config: RecLoraConfig) -> dict[str, Tensor]:
        """Draw A kaiming-uniform, (N, r, in), and set B to zero, (out, N, r)."""
        N, r = config.num_meta_loras, config.r
        return {"reclora_A": kaiming(N, r, inputs), "reclora_B": torch.zeros(outputs, N, r)}

    def factors(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        config = self.configs[name]
        weights = self._weights_of_gates(name) if config.num_meta_loras > 1 else None
        A, B = self.reclora_A[name], self.reclora_B[name]
        return mixed_factors(A, B, weights, config.composition, config.lora_alpha / config.r, dtype)


class RecLoraModel(PersonalizedTuner):
    """A base LLM with personalized LoRA, made by ``peft.get_peft_model(llm, RecLoraConfig(...))``.

    Its ``reclora_gates`` hold one :class:`GateBank` per adapter with several meta-LoRAs; their weights have shape
    (G, batch, N), with G 1 for ``gate_scope: shared``.
    """

    prefix = "reclora_"
    tuner_layer_cls = RecLoraLayer

    def new_gates(self, config: RecLoraConfig, layers: int) -> GateBank | None:
        """Return one gate per layer, or a single one; None if there is nothing to route."""
        if config.num_meta_loras == 1:
            return None
        return GateBank(config, 1 if config.gate_scope == "shared" else layers)


register(RecLoraType.RECLORA, RecLoraConfig, RecLoraModel)
