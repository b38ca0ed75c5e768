"""PEFT tuner base for LoRAs that differ from sample to sample: configuration, layer replacement and gates."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from reclora_kedro.adapters.base import TrainedOn
from reclora_kedro.adapters.base_llm import decoder_prefix
from reclora_kedro.adapters.linear import PersonalizedLayer


@dataclass
class PersonalizedConfig(TrainedOn, PeftConfig):
    """PEFT configuration of an adapter besides its method's settings."""

    layers_to_transform: list[int] | None = field(default=None, metadata={"help": "layers to adapt, from 0; None: all"})

    def __post_init__(self) -> None:
        PeftConfig.__post_init__(self)
        if isinstance(names := self.__dict__["target_modules"], list):  # a field of its method's settings
            self.__dict__["target_modules"] = set(names)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration with sets as sorted lists, so that every process saves the same."""
        values = super().to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}


class PersonalizedTuner(BaseTuner):
    """A base LLM with personalized LoRAs, made by ``peft.get_peft_model``; gates are in ``<prefix>gates``."""

    uses_shared_state = True
    tuner_layer_cls: ClassVar[type[PersonalizedLayer]]
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    @abstractmethod
    def new_gates(self, config: Any, layers: int) -> nn.Module | None:
        """Return the module that computes ``gate_weights`` from gate inputs (batch, gate_dim); None without gates.

        Its output has shape (G, batch, parts), where G is the number of layers, or 1 if all layers share it.
        """

    @property
    def gates(self) -> nn.ModuleDict:
        return getattr(self, f"{self.prefix}gates")

    def _pre_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        setattr(self, f"{self.prefix}gates", nn.ModuleDict())
        self._decoder = decoder_prefix(model)

    def _check_target_module_exists(self, peft_config: Any, key: str) -> Any:
        return key.startswith(self._decoder) and super()._check_target_module_exists(peft_config, key)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter: its layers, then its gates."""
        config = self.peft_config[adapter_name]
        if config.last_layers is not None:
            count = model.config.get_text_config().num_hidden_layers
            config.layers_to_transform = list(range(count))[-config.last_layers :]
        kept = [(weights, weights.requires_grad) for weights in self.gates.parameters()]
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        for weights, requires_grad in kept:
            weights.requires_grad_(requires_grad)
        layers = self.adapted_layers(adapter_name)
        if (gates := self.new_gates(config, len(layers))) is not None:
            first = getattr(layers[0], layers[0].adapter_layer_names[0])
            self.gates[adapter_name] = gates.to(first[adapter_name].device)
        trainable = adapter_name in self.active_adapters and not config.inference_mode
        self._gates_require_grad(adapter_name, trainable)

    def adapted_layers(self, adapter_name: str) -> list[Any]:
        """Return the layers of an adapter in the model's order, which is also that of its gates."""
        layers = (module for module in self.model.modules() if isinstance(module, self.tuner_layer_cls))
        return [layer for layer in layers if layer.has(adapter_name)]

    def _gates_require_grad(self, adapter_name: str, requires_grad: bool) -> None:
        if adapter_name in self.gates:
            self.gates[adapter_name].requires_grad_(requires_grad)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Set the active adapters; they become trainable unless ``inference_mode``, the others frozen."""
        super().set_adapter(adapter_name, inference_mode)
        for name in self.peft_config:
            self._gates_require_grad(name, name in self.active_adapters and not inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        super().set_requires_grad(adapter_names, requires_grad)
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self._gates_require_grad(name, requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        super().delete_adapter(adapter_name)
        if adapter_name in self.gates:
            del self.gates[adapter_name]

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        if isinstance(target, self.tuner_layer_cls):
            target.update_layer(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear | Conv1D):
            raise TypeError(
                f"The target module {target_name!r} is a {type(target).__name__}; personalized LoRA adapts linear "
                "layers only. Change target_modules."
            )
        layer = self.tuner_layer_cls(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def fit_gates(self, gate_inputs: Tensor) -> None:
        """Fit the active adapters' gates to the inputs of training samples, (samples, gate_dim), before training."""
        for name in self.active_adapters:
            if name in self.gates:
                self.gates[name].fit(gate_inputs)

    def gate_weights(self, gate_inputs: Tensor, adapter_name: str | None = None) -> Tensor | None:
        """Return gate weights for inputs (batch, gate_dim), see :meth:`new_gates`; ValueError for another width."""
        name = adapter_name or self.active_adapters[0]
        if name not in self.gates:
            return None
        gate_dim = self.peft_config[name].gate_dim
        if gate_inputs.shape[-1] != gate_dim:
            raise ValueError(
                f"The gates of the adapter {name!r} were made for inputs of width {gate_dim}, but got inputs of shape "
                f"{tuple(gate_inputs.shape)}: give what it was trained with, {self.peft_config[name].gate_input}."
            )
        return self.gates[name](gate_inputs)

    @contextmanager
    def gate_context(self, gate_inputs: Tensor | None) -> Iterator[None]:
        """Personalize forward passes inside the context: row i of a batch by row i of ``gate_inputs``, if any.

        The gates are computed here, once for all layers. A backward pass with gradient checkpointing computes
        activations again, so it belongs inside the context too. ValueError is raised for inputs of another width.
        """
        personalized = []
        for name in self.active_adapters if gate_inputs is not None else ():
            if (weights := self.gate_weights(gate_inputs, name)) is not None:
                layers = self.adapted_layers(name)
                for layer, layer_weights in zip(layers, weights.expand(len(layers), -1, -1).unbind(), strict=True):
                    layer.gate_weights[name] = layer_weights
                personalized += layers
        try:
            yield
        finally:
            for layer in personalized:
                layer.gate_weights.clear()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Raise ValueError for PEFT's ``adapter_names``, an adapter per row, which this tuner does not support."""
        if kwargs.get("adapter_names") is not None:
            raise ValueError(
                "adapter_names asks for an adapter of each row, but one personalized LoRA serves all rows of a batch: "
                "choose it by set_adapter, and give the rows of each adapter a batch of their own."
            )
        yield

    def forward(self, *args: Any, gate_inputs: Tensor | None = None, **kwargs: Any) -> Any:
        """Run the base LLM's forward pass, personalized by ``gate_inputs``, shape (batch, gate_dim)."""
        with self.gate_context(gate_inputs):
            return self.model(*args, **kwargs)


def register(kind: str, config: type[PersonalizedConfig], tuner: type[PersonalizedTuner]) -> None:
    """Let PEFT create, save and load a method's adapters, of ``peft_type`` `kind`, like those of its own methods."""
    PEFT_TYPE_TO_CONFIG_MAPPING[kind] = config
    PEFT_TYPE_TO_TUNER_MAPPING[kind] = tuner
    PEFT_TYPE_TO_PREFIX_MAPPING[kind] = tuner.prefix
