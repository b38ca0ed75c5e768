"""PEFT tuner base for LoRAs that differ from sample to sample: configuration, layers with an update each, and gates."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from reclora_kedro.adapters.base_llm import decoder_prefix
from reclora_kedro.adapters.saved import TrainedOn


class AdaptedLinear(torch.autograd.Function):
    """A frozen linear layer and its update as one autograd function, ``W x + b + up diag(alpha) down x``.

    The matrix products add the update to the layer's output, and its part of the input gradient to the layer's, in
    place: no second tensor as large as the input or the output is written.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, alpha: Tensor | None
    ) -> Tensor:
        """Return the output, shape (batch, tokens, out), for ``x`` of shape (batch, tokens, in), see `update`."""
        output = F.linear(x, weight, bias)
        z = x @ down.mT
        add_product(output, z if alpha is None else z * alpha[:, None], up.mT)
        ctx.save_for_backward(x, weight, down, up, alpha, z)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of the input, the two factors and alpha; the layer itself is frozen."""
        x, weight, down, up, alpha, z = ctx.saved_tensors
        z_gradient, alpha_gradient = gradient @ up, None
        if alpha is not None:
            alpha_gradient = (z_gradient * z).sum(dim=1)
            z, z_gradient = z * alpha[:, None], z_gradient * alpha[:, None]
        shared = down.dim() == 2
        down_gradient, up_gradient = over_tokens(z_gradient, x, shared), over_tokens(gradient, z, shared)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = gradient @ weight
            add_product(x_gradient, z_gradient, down)
        return x_gradient, None, None, down_gradient, up_gradient, alpha_gradient


def add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` in place; ``right`` is one matrix for all samples, or one per sample."""
    if right.dim() == 2:
        target.flatten(0, 1).addmm_(left.flatten(0, 1), right)
    else:
        target.baddbmm_(left, right)


def over_tokens(left: Tensor, right: Tensor, shared: bool) -> Tensor:
    """Return ``leftᵀ right``, summed over all tokens if the matrix is shared, else over each sample's tokens."""
    return left.flatten(0, 1).mT @ right.flatten(0, 1) if shared else left.mT @ right


def is_plain(linear: nn.Module, x: Tensor) -> bool:
    """Whether a layer is only a frozen ``F.linear``: not quantised, hooked, autocast or trained."""
    return (
        type(linear) is nn.Linear
        and not linear.weight.requires_grad
        and (linear.bias is None or not linear.bias.requires_grad)
        and not (linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks)
        and "forward" not in vars(linear)
        and x.dtype == linear.weight.dtype
        and not torch.is_autocast_enabled(x.device.type)
    )


class PersonalizedLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with a personalized LoRA per adapter name; methods define its weights.

    Weights stay in float32 for the optimiser and are cast to the input's type on use.
    :meth:`PersonalizedTuner.gate_context` sets ``gate_weights``, shape (batch, parts) per adapter name, around each
    forward pass.
    """

    other_param_names = ("configs",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: PeftConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.configs: dict[str, Any] = {}
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self.gate_weights: dict[str, Tensor] = {}
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    @abstractmethod
    def fresh_weights(self, inputs: int, outputs: int, config: Any) -> dict[str, Tensor]:
        """Return initial weights by the names in ``adapter_layer_names``; their update must be zero."""

    @abstractmethod
    def factors(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the factors of each sample's update ``up diag(alpha) down x``, from the weights and ``gate_weights``.

        Returns:
            ``down``, (rank, in) for all samples or (batch, rank, in), ``up``, (out, rank) or (batch, out, rank), and
            ``alpha``, (batch, rank) or None.
        """

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Add an adapter that leaves the layer's output unchanged."""
        linear = self.get_base_layer()
        inputs, outputs = (
            linear.weight.shape if isinstance(linear, Conv1D) else (linear.in_features, linear.out_features)
        )
        self.configs[adapter_name] = config
        device = next(linear.parameters()).device
        for name, weights in self.fresh_weights(inputs, outputs, config).items():
            getattr(self, name)[adapter_name] = nn.Parameter(weights.to(device))
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def has(self, adapter_name: str) -> bool:
        return adapter_name in self.configs and adapter_name in getattr(self, self.adapter_layer_names[0])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output plus active adapters' updates, (batch, ..., out); ValueError without gate input."""
        names = [] if self.disable_adapters else [name for name in self.active_adapters if self.has(name)]
        if len(names) == 1 and is_plain(self.base_layer, x):
            factors = self.factors(names[0], x.dtype)
            tokens = by_sample(x, *factors)
            output = AdaptedLinear.apply(tokens, self.base_layer.weight, self.base_layer.bias, *factors)
            return output.view(*x.shape[:-1], -1)
        output = self.base_layer(x, *args, **kwargs)
        for name in names:
            output = output + update(x, *self.factors(name, x.dtype))
        return output

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise TypeError, since no single matrix is the update of all samples."""
        raise TypeError(
            "A personalized LoRA cannot be merged into the base LLM: its update differs from sample to sample. Write "
            "one user's LoRA with reclora_kedro.adapters.methods.user_loras, and merge that."
        )

    def _weights_of_gates(self, name: str) -> Tensor:
        """Return an adapter's gate weights in this forward pass, shape (batch, parts)."""
        if name not in self.gate_weights:
            raise ValueError(
                f"The gates of the adapter {name!r} need inputs, but none were given: call the model with "
                f"gate_inputs=h, h of shape (batch, {self.configs[name].gate_dim})."
            )
        return self.gate_weights[name]


def by_sample(x: Tensor, down: Tensor, up: Tensor, alpha: Tensor | None) -> Tensor:
    """Return inputs, (batch, ..., in), with their tokens by sample, (batch, tokens, in).

    Some layers read all tokens of a batch in one row, (batch · tokens, in), such as OPT's MLP and shared experts.
    """
    samples = len(x)
    if x.dim() == 2 and (down.dim() == 3 or alpha is not None):
        samples = len(down if alpha is None else alpha)
    return x.reshape(samples, -1, x.shape[-1])


def update(x: Tensor, down: Tensor, up: Tensor, alpha: Tensor | None) -> Tensor:
    """Return the update, (batch, ..., out), of inputs, (batch, ..., in), without forming a full matrix per sample."""
    z = by_sample(x, down, up, alpha) @ down.mT
    if alpha is not None:
        z = z * alpha[:, None]
    return (z @ up.mT).view(*x.shape[:-1], -1)


def kaiming(*shape: int) -> Tensor:
    """Draw each matrix (last two axes) as PEFT initialises the down projection of a LoRA."""
    matrices = torch.empty(shape)
    for matrix in matrices.view(-1, *shape[-2:]):
        nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
    return matrices


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
                "adapter_names names an adapter for each row, but one personalized LoRA serves all rows of a batch: "
                "select it with set_adapter, and put the rows of each adapter into their own batch."
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
