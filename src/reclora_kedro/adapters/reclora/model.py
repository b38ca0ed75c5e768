"""The surgery: PEFT puts a :class:`RecLoraLayer` in place of every target layer of the base LLM."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from reclora_kedro.adapters.reclora.config import RecLoraConfig
from reclora_kedro.adapters.reclora.gates import GateBank
from reclora_kedro.adapters.reclora.layer import RecLoraLayer


class RecLoraModel(BaseTuner):
    """A base LLM with personalized LoRA, made by ``peft.get_peft_model(llm, RecLoraConfig(...))``.

    Per adapter name it holds what no single layer owns: ``reclora_gates``, the :class:`GateBank` of an adapter with
    several meta-LoRAs.
    """

    prefix = "reclora_"
    uses_shared_state = True
    tuner_layer_cls = RecLoraLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def _pre_injection_hook(self, model: nn.Module, config: RecLoraConfig, adapter_name: str) -> None:
        self.reclora_gates = nn.ModuleDict()

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter: its layers, then its gates."""
        config = self.peft_config[adapter_name]
        if config.last_layers is not None:
            count = model.config.get_text_config().num_hidden_layers
            config.layers_to_transform = list(range(count))[-config.last_layers :]
        kept = [(weights, weights.requires_grad) for weights in self.reclora_gates.parameters()]
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        for weights, requires_grad in kept:
            weights.requires_grad_(requires_grad)
        layers = self.adapted_layers(adapter_name)
        device = layers[0].reclora_A[adapter_name].device
        if config.num_meta_loras > 1:
            gates = 1 if config.gate_scope == "shared" else len(layers)
            self.reclora_gates[adapter_name] = GateBank(config, gates).to(device)
        trainable = adapter_name in self.active_adapters and not config.inference_mode
        self._gates_require_grad(adapter_name, trainable)

    def adapted_layers(self, adapter_name: str) -> list[RecLoraLayer]:
        """The layers of an adapter, in the model's order, which is that of its gates."""
        layers = (module for module in self.model.modules() if isinstance(module, RecLoraLayer))
        return [layer for layer in layers if adapter_name in layer.reclora_A]

    def _gates_require_grad(self, adapter_name: str, requires_grad: bool) -> None:
        if adapter_name in self.reclora_gates:
            self.reclora_gates[adapter_name].requires_grad_(requires_grad)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Choose the active adapters; they become trainable unless ``inference_mode``, the others frozen."""
        super().set_adapter(adapter_name, inference_mode)
        for name in self.peft_config:
            self._gates_require_grad(name, name in self.active_adapters and not inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Train or freeze adapters by name."""
        super().set_requires_grad(adapter_names, requires_grad)
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self._gates_require_grad(name, requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter for good."""
        super().delete_adapter(adapter_name)
        if adapter_name in self.reclora_gates:
            del self.reclora_gates[adapter_name]

    def _create_and_replace(
        self,
        peft_config: RecLoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        if isinstance(target, RecLoraLayer):
            target.update_layer(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear | Conv1D):
            raise TypeError(
                f"The target module {target_name!r} is a {type(target).__name__}; personalized LoRA adapts linear "
                "layers only. Change target_modules."
            )
        layer = RecLoraLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def standardize_inputs(self, gate_inputs: Tensor) -> None:
        """Let the active adapter's gates centre and scale inputs so that these, (samples, gate_dim), are standard.

        Call it before training, with the inputs of the samples to learn from; the result is saved with the adapter.
        """
        for name in self.active_adapters:
            if name in self.reclora_gates:
                self.reclora_gates[name].fit(gate_inputs)

    def gate_weights(self, gate_inputs: Tensor, adapter_name: str | None = None) -> Tensor | None:
        """Weights of an adapter's gates over its meta-LoRAs; None when N is 1.

        Args:
            gate_inputs: what the gates read, shape (batch, gate_dim).
            adapter_name: the adapter; None is the active one.

        Returns:
            Shape (G, batch, N): one gate for each of :meth:`adapted_layers`, or a single one with
            ``gate_scope: shared``.

        Raises:
            ValueError: the inputs' width is not the adapter's ``gate_dim``.
        """
        name = adapter_name or self.active_adapters[0]
        if name not in self.reclora_gates:
            return None
        gate_dim = self.peft_config[name].gate_dim
        if gate_inputs.shape[-1] != gate_dim:
            raise ValueError(
                f"The gates of the adapter {name!r} were made for inputs of width {gate_dim}, but got inputs of shape "
                f"{tuple(gate_inputs.shape)}: give what it was trained with, {self.peft_config[name].gate_input}."
            )
        return self.reclora_gates[name](gate_inputs)

    @contextmanager
    def gate_context(self, gate_inputs: Tensor | None) -> Iterator[None]:
        """Personalize every forward pass inside: row i of a batch is adapted to row i of ``gate_inputs``.

        The gates are computed here, once for all layers. A backward pass that computes activations again (gradient
        checkpointing) belongs inside, too.

        Args:
            gate_inputs: what the gates read, shape (batch, gate_dim); None leaves the forward passes as they are.

        Raises:
            ValueError: the inputs' width is not the adapter's ``gate_dim``.
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
        """Refuse an adapter for each row, PEFT's ``adapter_names``, which nothing would read.

        Raises:
            ValueError: it is given.
        """
        if kwargs.get("adapter_names") is not None:
            raise ValueError(
                "adapter_names asks for an adapter of each row, but one personalized LoRA serves all rows of a batch: "
                "choose it by set_adapter, and give the rows of each adapter a batch of their own."
            )
        yield

    def forward(self, *args: Any, gate_inputs: Tensor | None = None, **kwargs: Any) -> Any:
        """The base LLM's forward pass, personalized by ``gate_inputs``, shape (batch, gate_dim)."""
        with self.gate_context(gate_inputs):
            return self.model(*args, **kwargs)
