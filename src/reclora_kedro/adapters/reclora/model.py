"""The surgery: PEFT puts a :class:`RecLoraLayer` in place of every target layer of the base LLM."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from reclora_kedro.adapters.reclora.config import RecLoraConfig
from reclora_kedro.adapters.reclora.layer import RecLoraLayer, StateScaler


class RecLoraModel(BaseTuner):
    """A base LLM with personalized LoRA, made by ``peft.get_peft_model(llm, RecLoraConfig(...))``."""

    prefix = "reclora_"
    tuner_layer_cls = RecLoraLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

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
        if not isinstance(target, nn.Linear):
            raise TypeError(
                f"The target module {target_name!r} is a {type(target).__name__}; personalized LoRA adapts linear "
                "layers only. Change target_modules."
            )
        layer = RecLoraLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def standardize_states(self, lens_states: Tensor) -> None:
        """Let the gates centre and scale lens states so that these, shape (rows, lens_dim), become standard.

        Call it before training, with the states of the rows to learn from; the result is saved with the adapter.
        """
        for module in self.model.modules():
            if isinstance(module, StateScaler):
                module.fit(lens_states)

    @contextmanager
    def lens_context(self, lens_states: Tensor | None) -> Iterator[None]:
        """Personalize every forward pass inside: row i of a batch is adapted to row i of ``lens_states``.

        Args:
            lens_states: frozen lens states, shape (batch, lens_dim); None for adapters with a single meta-LoRA.
        """
        layers = [module for module in self.model.modules() if isinstance(module, RecLoraLayer)]
        for layer in layers:
            layer.lens_states = lens_states
        try:
            yield
        finally:
            for layer in layers:
                layer.lens_states = None

    def forward(self, *args: Any, lens_states: Tensor | None = None, **kwargs: Any) -> Any:
        """The base LLM's forward pass, personalized by ``lens_states``, shape (batch, lens_dim)."""
        with self.lens_context(lens_states):
            return self.model(*args, **kwargs)
