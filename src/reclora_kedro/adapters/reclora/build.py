"""Put a configured adapter on a base LLM, and load a saved one."""

import hashlib
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from reclora_kedro.adapters.reclora.config import AdapterConfig, RecLoraConfig
from reclora_kedro.errors import MismatchError

ATTENTION_PROJECTIONS = (
    ("q_proj", "v_proj"),
    ("qkv_proj",),  # Phi 3
    ("query_key_value",),  # BLOOM, Falcon, GPT-NeoX
    ("c_attn",),  # GPT-2
    ("Wqkv",),  # MPT
    ("in_proj",),  # Mamba
)
"""What `target_modules: auto` adapts: the first of these that the base LLM has."""

LINEAR = torch.nn.Linear | Conv1D


def new_adapter(model: Any, config: AdapterConfig, gate_inputs: Tensor, gate_input: str, seed: int) -> PeftModel:
    """The base LLM with a fresh, trainable adapter; it still scores exactly as the base LLM does.

    Args:
        model: a causal LM.
        config: settings of the adapter.
        gate_inputs: inputs of the samples to learn from, by which the gates standardise theirs, shape (samples,
            gate_dim).
        gate_input: their name, which is kept with the adapter.
        seed: of the initial weights.

    Raises:
        ValueError: a name in ``target_modules`` is no linear layer in a block of the base LLM, or none is found for
            ``auto``.
    """
    if config.target_modules == "auto":
        config = replace(config, target_modules=attention_projections(model))
    require_target_modules(model, config)
    torch.manual_seed(seed)
    base_llm = describe_base_llm(model)
    adapted = get_peft_model(
        model,
        RecLoraConfig(
            task_type="CAUSAL_LM",
            gate_dim=gate_inputs.shape[1],
            gate_input=gate_input,
            base_llm=base_llm,
            **asdict(config),
        ),
    )
    adapted.standardize_inputs(gate_inputs)
    return adapted


def require_target_modules(model: Any, config: AdapterConfig) -> None:
    """Refuse target modules that an adapter cannot be put on; weights are not looked at, the meta device will do.

    Raises:
        ValueError: a name in ``target_modules`` is no linear layer in a block of the base LLM, an expression matches
            none, or something else, or none is found for ``auto``.
    """
    targets = config.target_modules
    if targets == "auto":
        attention_projections(model)
        return
    for target in [targets] if isinstance(targets, str) else targets:
        matched = [
            (path, part)
            for path, part in model.named_modules()
            if (re.fullmatch(target, path) if isinstance(targets, str) else f".{path}".endswith(f".{target}"))
        ]
        wrong = [path for path, part in matched if not _in_block(path) or not isinstance(part, LINEAR)]
        if wrong or not matched:
            found = f"has as {wrong[0]}, which is no linear layer in a block" if wrong else "does not have"
            raise ValueError(
                f"adapter.target_modules names {target}, which the base LLM {found}; "
                f"its linear layers are {', '.join(sorted(linear_layers(model)))}: name some of these."
            )


def linear_layers(model: Any) -> set[str]:
    """Names of the linear layers in a model's blocks, without their paths."""
    layers = (path for path, part in model.named_modules() if isinstance(part, LINEAR) and _in_block(path))
    return {path.rsplit(".", 1)[-1] for path in layers}


def _in_block(path: str) -> bool:
    """Whether a layer stands in one of the model's blocks, which are numbered; its head does not."""
    return any(part.isdigit() for part in path.split("."))


def attention_projections(model: Any) -> list[str]:
    """Names of the layers that make queries and values, or what a model without attention reads its input by.

    Raises:
        ValueError: the model has none that is known.
    """
    found = linear_layers(model)
    for names in ATTENTION_PROJECTIONS:
        if found.issuperset(names):
            return list(names)
    raise ValueError(
        f"adapter.target_modules is auto, but none of the base LLM's linear layers is known as an attention "
        f"projection: name some of {', '.join(sorted(found))}."
    )


def load_adapter(model: Any, folder: str, gate_input: str | None = None, gate_dim: int | None = None) -> PeftModel:
    """The base LLM with a saved adapter, frozen and in eval mode.

    Args:
        model: the causal LM that the adapter was trained on, in any precision.
        folder: the adapter's folder.
        gate_input: name of the gate inputs that it will be given; None leaves them unchecked.
        gate_dim: their width.

    Raises:
        MismatchError: the adapter is of another base LLM, or was trained on other gate inputs.
    """
    saved = saved_config(folder)
    expected, found = saved.base_llm, describe_base_llm(model)
    if expected is not None and expected["fingerprint"] != found["fingerprint"]:
        raise MismatchError(
            f"The adapter in {folder} was trained on the base LLM {expected['name']!r} (fingerprint "
            f"{expected['fingerprint'][:12]}), but got {found['name']!r} ({found['fingerprint'][:12]}): set `source` "
            "of the catalog entry `base_llm` to the former, or train the adapter again.",
            "adapter",
        )
    trained, given = (saved.gate_input, saved.gate_dim), (gate_input, gate_dim)
    if gate_input is not None and saved.num_meta_loras > 1 and trained != given:
        raise MismatchError(
            f"The gates of the adapter in {folder} were trained on the gate input {trained[0]!r} of width "
            f"{trained[1]}, but got {given[0]!r} of width {given[1]}.",
            "gate_inputs",
            "adapter",
        )
    return PeftModel.from_pretrained(model, folder).eval()


def saved_config(folder: str) -> RecLoraConfig:
    """The configuration of a saved adapter."""
    return PeftConfig.from_pretrained(folder)


def describe_base_llm(model: Any) -> dict[str, str]:
    """Name and fingerprint of a base LLM, by which an adapter knows the one that it was trained on.

    The fingerprint is a digest of the norms' weights, rounded to bfloat16: quantisation leaves them alone, so it is the
    same in any precision and folder. Where norms have none it is of the biases, and without those of sizes alone. Two
    models that share their norms, such as one and its copy with a merged LoRA, are not told apart.
    """
    vectors = {name: weights for name, weights in sorted(model.named_parameters()) if weights.dim() == 1}
    norms = {name: weights for name, weights in vectors.items() if name.endswith("weight")}
    digest = hashlib.sha256()
    for name, weights in (norms or vectors).items():
        rounded = weights.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy()
        digest.update(name.encode() + rounded.astype("<i2").tobytes())
    text = model.config.get_text_config()
    digest.update(f"{text.model_type} {text.hidden_size} {text.num_hidden_layers}".encode())
    folder = Path(model.name_or_path)
    return {"name": folder.name if folder.is_absolute() else str(folder), "fingerprint": digest.hexdigest()}
