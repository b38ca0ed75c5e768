"""PEFT's configuration, layers and model of MTL-LoRA."""

from dataclasses import dataclass, fields
from enum import StrEnum

import torch
from torch import Tensor, nn

from reclora_extras.mtl_lora.settings import SETTINGS, MtlLoraSettings
from reclora_kedro.adapters.tuner import PersonalizedConfig, PersonalizedLayer, PersonalizedTuner, kaiming, register


class MtlLoraType(StrEnum):
    """PEFT's name of the method."""

    MTL_LORA = "MTL_LORA"


@dataclass
class MtlLoraConfig(MtlLoraSettings, PersonalizedConfig):
    """PEFT's configuration of MTL-LoRA: the settings, and ``gate_dim``, the number of tasks.

    ValueError is raised for a value outside its range, and names the field.
    """

    def __post_init__(self) -> None:
        PersonalizedConfig.__post_init__(self)
        self.peft_type = MtlLoraType.MTL_LORA
        SETTINGS.validate_python({entry.name: getattr(self, entry.name) for entry in fields(MtlLoraSettings)})
        if self.gate_dim is None or self.gate_dim < 1:
            raise ValueError(f"gate_dim is {self.gate_dim}, but it is the number of tasks: give at least 1.")

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        assert self.gate_dim is not None
        return self.gate_dim


class TaskShares(nn.Module):
    """Shares of T tasks in a sample, from its values of a field.

    A sample of several tasks, such as a film of two genres, has equal shares. Tasks of no few-shot row are left out; a
    sample without any other task has the mean shares of the few-shot rows, so that no untrained weights are used.
    """

    prior: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("prior", torch.full((tasks,), 1 / tasks))

    @torch.no_grad()
    def fit(self, tasks: Tensor) -> None:
        """Store the mean shares of the few-shot rows, from 0/1 of shape (rows, T)."""
        tasks = tasks.to(self.prior)[tasks.any(dim=-1)]
        if len(tasks):
            self.prior.copy_((tasks / tasks.sum(dim=-1, keepdim=True)).mean(dim=0))

    def forward(self, tasks: Tensor) -> Tensor:
        """Return shares that sum to one over the last axis, (1, batch, T), from 0/1 of shape (batch, T)."""
        trained = tasks.to(self.prior) * (self.prior > 0)
        count = trained.sum(dim=-1, keepdim=True)
        return torch.where(count > 0, trained / count.clamp(min=1), self.prior)[None]


class MtlLoraLayer(PersonalizedLayer):
    """A frozen linear layer with shared projections, and a transformation and scores per task, per adapter name."""

    adapter_layer_names = ("mtl_lora_A", "mtl_lora_B", "mtl_lora_transforms", "mtl_lora_scores")

    def fresh_weights(self, inputs: int, outputs: int, config: MtlLoraConfig) -> dict[str, Tensor]:
        """A and scores kaiming-uniform, B zero, and transformations that are the identity.

        Shapes: A (r, in), B (out, N, r), transformations (T, r, r), scores (T, N); of separate LoRAs, A (T, r, in) and
        B (out, T, r).
        """
        T, N, r = config.tasks, config.num_up_projections, config.r
        if config.separate:
            return {"mtl_lora_A": kaiming(T * r, inputs).view(T, r, inputs), "mtl_lora_B": torch.zeros(outputs, T, r)}
        return {
            "mtl_lora_A": kaiming(r, inputs),
            "mtl_lora_B": torch.zeros(outputs, N, r),
            "mtl_lora_transforms": torch.eye(r).repeat(T, 1, 1),
            "mtl_lora_scores": kaiming(T, N),
        }

    def factors(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, None]:
        """Λ A of shape (batch, r, in), and Σ_j softmax(w / temperature)_j B_j of shape (batch, out, r).

        A sample of several tasks has the mean of each. With one task there is one of each for all samples.
        """
        config, shares = self.configs[name], self.gate_weights.get(name)
        if config.tasks > 1:
            shares = self._weights_of_gates(name)
        down = self.mtl_lora_A[name]
        if not config.separate:
            down = self.mtl_lora_transforms[name] @ down
        weight = self.weights_of_tasks(name)
        if shares is None:
            down, weight = down[0], weight[0]
        else:
            down, weight = torch.einsum("bt,tri->bri", shares, down), shares @ weight
        up = torch.einsum("...n,onr->...or", weight * (config.lora_alpha / config.r), self.mtl_lora_B[name])
        return down.to(dtype), up.to(dtype), None

    def weights_of_tasks(self, name: str) -> Tensor:
        """Return each task's weights of the up projections, which sum to one: (T, N), or (T, T) if separate."""
        config = self.configs[name]
        if config.separate:
            return torch.eye(config.tasks, device=self.mtl_lora_B[name].device)
        return torch.softmax(self.mtl_lora_scores[name] / config.temperature, dim=-1)


class MtlLoraModel(PersonalizedTuner):
    """A base LLM with MTL-LoRA, made by ``peft.get_peft_model(llm, MtlLoraConfig(...))``."""

    prefix = "mtl_lora_"
    tuner_layer_cls = MtlLoraLayer

    def new_gates(self, config: MtlLoraConfig, layers: int) -> TaskShares | None:
        """Return the shares of tasks, the same for all layers; None for a single task."""
        return TaskShares(config.tasks) if config.tasks > 1 else None


register(MtlLoraType.MTL_LORA, MtlLoraConfig, MtlLoraModel)
