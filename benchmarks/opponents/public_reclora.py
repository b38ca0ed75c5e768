"""RecLoRA as its authors' public code trains it: one sample at a time, with weight matrices of its own.

Written for this comparison from the published method. Every adapted layer has a gate of its own and mixes its
meta-LoRAs into one pair of matrices for the sample; a step accumulates the gradients of its rows, one forward and
backward pass each, with the loss over the whole vocabulary and logits at every position.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reclora_kedro.adapters.reclora.settings import RecLoraSettings


class PersonalizedLinear(nn.Module):
    """A frozen linear layer with N meta-LoRAs, mixed for each sample by the layer's own gate.

    Args:
        linear: the frozen layer.
        A: down projections, shape (N, r, in).
        B: up projections, shape (out, N, r).
        gate_dim: width of the gate inputs.
        config: widths and scales of gate and update.
    """

    def __init__(self, linear: nn.Linear, A: Tensor, B: Tensor, gate_dim: int, config: RecLoraSettings) -> None:
        super().__init__()
        self.linear = linear
        self.A, self.B = nn.Parameter(A.detach().clone()), nn.Parameter(B.detach().clone())
        self.gate = nn.Sequential(
            nn.LayerNorm(gate_dim),
            nn.Linear(gate_dim, config.gate_hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.gate_dropout),
            nn.Linear(config.gate_hidden_dim, config.num_meta_loras),
        ).to(A.device)
        self.scaling, self.temperature = config.lora_alpha / config.r, config.temperature
        self.gate_inputs: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output and the update, shape (batch, tokens, out)."""
        alpha = torch.softmax(self.gate(self.gate_inputs) / self.temperature, dim=-1)
        down = torch.einsum("bn,nri->bri", alpha, self.A).to(x.dtype)
        up = torch.einsum("bn,onr->bor", alpha * self.scaling, self.B).to(x.dtype)
        return self.linear(x) + x @ down.mT @ up.mT


class PublicReclora:
    """A base LLM whose layers are personalized, with the weights of an adapter of ours, and its training step.

    Args:
        model: a frozen causal LM.
        ours: another copy of it with a RecLoRA adapter, whose gates normalise by layer.
        config: what that adapter was made from.
        learning_rate: of AdamW.
    """

    def __init__(self, model: Any, ours: Any, config: RecLoraSettings, learning_rate: float) -> None:
        name = ours.active_adapter
        bank = ours.base_model.reclora_gates[name]
        adapted = iter(enumerate(ours.base_model.adapted_layers(name)))
        self.model = model
        self.layers: list[PersonalizedLinear] = []
        for module in list(model.modules()):
            for child, linear in list(module.named_children()):
                if child in config.target_modules:
                    gate, layer = next(adapted)
                    A, B = layer.reclora_A[name], layer.reclora_B[name]
                    self.layers.append(PersonalizedLinear(linear, A, B, bank.config.gate_dim, config))
                    setattr(module, child, self.layers[-1])
                    _, hidden, _, _, output = self.layers[-1].gate
                    with torch.no_grad():
                        hidden.weight.copy_(bank.hidden_weight[gate])
                        hidden.bias.copy_(bank.hidden_bias[gate])
                        output.weight.copy_(bank.output_weight[gate])
                        output.bias.copy_(bank.output_bias[gate])
        self.weights = [weights for weights in model.parameters() if weights.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=learning_rate, weight_decay=0.0)

    def logits(self, token_ids: Sequence[int], gate_input: Tensor) -> Tensor:
        """Logits of every position over the whole vocabulary, shape (1, tokens, vocabulary)."""
        for layer in self.layers:
            layer.gate_inputs = gate_input[None]
        ids = torch.tensor([list(token_ids)], device=self.model.device)
        return self.model(input_ids=ids, use_cache=False).logits

    def step(self, rows: list[dict[str, list[int]]], gate_inputs: Tensor) -> None:
        """One step of AdamW over rows with input_ids and labels, one pass each."""
        self.model.train()
        for row, gate_input in zip(rows, gate_inputs, strict=True):
            logits = self.logits(row["input_ids"][:-1], gate_input)
            targets = torch.tensor(row["labels"][1:], device=logits.device)
            loss = nn.functional.cross_entropy(logits[0].float(), targets)
            (loss / len(rows)).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
