"""The algebra of the personalized LoRA, and the PEFT tuner that replaces every target layer of the base LLM by it."""

import torch
from torch import Tensor

from reclora_kedro.adapters.linear import PersonalizedLayer, kaiming
from reclora_kedro.adapters.reclora.config import RecLoraConfig, RecLoraType
from reclora_kedro.adapters.reclora.gates import GateBank
from reclora_kedro.adapters.tuner import PersonalizedTuner, register


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
