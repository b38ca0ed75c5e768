"""What all adapter methods share: fresh and saved adapters, and users' LoRAs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kedro_provenance.errors import MismatchError
from reclora_kedro.adapters.base import AdapterMethod, AdapterSettings
from reclora_kedro.adapters.base_llm import describe_base_llm, require_base_llm
from reclora_kedro.adapters.lora import UserLoras
from reclora_kedro.adapters.registry import adapter_method
from reclora_kedro.adapters.saved import TrainedOn
from reclora_kedro.devices import seeded
from reclora_kedro.gate_inputs import GateInputs

if TYPE_CHECKING:
    from peft import PeftModel


def method_of(model: Any) -> AdapterMethod:
    """Return the method of a model's active adapter; one without gates for no adapter or one of PEFT's own."""
    from peft import PeftModel

    config = model.active_peft_config if isinstance(model, PeftModel) else None
    name = getattr(config, "method", None)
    return AdapterMethod() if name is None else adapter_method(name)


def new_adapter(model: Any, settings: AdapterSettings, gate_inputs: GateInputs, seed: int) -> "PeftModel":
    """Add a fresh, trainable adapter without effect on outputs yet; raise ValueError for settings that do not fit."""
    from peft import get_peft_model

    method = adapter_method(settings.method)
    method.require(model, settings)
    method.register()
    trained_on = TrainedOn(describe_base_llm(model), gate_inputs.name, gate_inputs.width)
    with seeded(seed, next(model.parameters()).device):
        adapted = get_peft_model(model, method.peft_config(model, settings, trained_on))
    method.prepare(adapted, gate_inputs.values)
    return adapted


def load_adapter(model: Any, folder: str, gate_input: str | None = None, gate_dim: int | None = None) -> "PeftModel":
    """Add a saved adapter, frozen and in eval mode, that will read gate inputs of this name and width (None: any).

    MismatchError is raised for an adapter that names another base LLM or none, or was trained on other gate inputs.
    """
    saved = saved_config(folder)
    require_base_llm(model, saved.base_llm or {}, folder)
    trained, given = (saved.gate_input, saved.gate_dim), (gate_input, gate_dim)
    if gate_input is not None and adapter_method(saved.method).has_gates(saved) and trained != given:
        raise MismatchError(
            f"The gates of the adapter in {folder} were trained on the gate input {trained[0]!r} of width "
            f"{trained[1]}, but got {given[0]!r} of width {given[1]}.",
            "gate_inputs",
            "adapter",
        )
    return restore_adapter(model, folder)


def restore_adapter(model: Any, folder: str, *, trainable: bool = False) -> "PeftModel":
    """Add the adapter in a folder, in eval mode, without any check."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder, is_trainable=trainable, config=saved_config(folder)).eval()


def saved_config(folder: str) -> Any:
    """Return the PEFT configuration of a saved adapter, with its method and what it was trained on."""
    from peft import PeftConfig

    written = json.loads(Path(folder, "adapter_config.json").read_text(encoding="utf-8"))
    if "method" in written:
        adapter_method(written["method"]).register()
    return PeftConfig.from_pretrained(folder)


def require_one_lora_per_user(config: Any) -> None:
    """Raise ValueError for an adapter without one LoRA per user, as when its gates read more than ``user``."""
    method = adapter_method(config.method)
    if not method.exports_loras:
        raise ValueError(
            f"Adapters of the method {method.name!r} are not LoRAs and cannot be exported for a user: "
            "set export.variant to a variant of another method."
        )
    if method.has_gates(config) and config.gate_input != "user":
        raise ValueError(
            f"The gates of this adapter read {config.gate_input!r}, but only the lens's state of the user gives one "
            "LoRA per user, which can be exported. Set `gate_input: user` in its variant under finetuning.variants and "
            "train it, or set export.variant to a variant that has it."
        )


def user_loras(adapted: "PeftModel", user_states: Tensor, user_ids: list[Any], note: str = "") -> UserLoras:
    """Return the LoRA of each user under an adapter that has one for each, see `require_one_lora_per_user`."""
    require_one_lora_per_user(adapted.active_peft_config)
    return method_of(adapted).user_loras(adapted, user_states, user_ids, note)
