"""The base LLM of an adapter: digests that identify it, and the layers that can be adapted."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kedro_provenance.errors import MismatchError

ATTENTION_PROJECTIONS = (
    ("q_proj", "v_proj"),
    ("qkv_proj",),  # Phi 3
    ("query_key_value",),  # BLOOM, Falcon, GPT-NeoX
    ("c_attn",),  # GPT-2
    ("Wqkv",),  # MPT
    ("in_proj",),  # Mamba
)
"""Candidates for `target_modules: auto`, which takes the first that the base LLM has."""

SUMS_PER_TENSOR = 1024  # that represent a tensor in a digest, each over every 1024th group of four weights


def decoder_prefix(model: Any) -> str:
    """Return what the paths of all parts of a base LLM's decoder begin with, unlike those of a vision tower's parts."""
    decoder = model.get_decoder()
    path = next(path for path, part in model.named_modules() if part is decoder)
    return f"{path}." if path else ""


def require_target_modules(model: Any, targets: str | Collection[str]) -> None:
    """Raise ValueError if targets match nothing in a base LLM's decoder, or anything but linear layers in its blocks.

    Targets are suffixes of the layers' paths, a regular expression of whole paths, or ``auto``.
    """
    if targets == "auto":
        attention_projections(model)
        return
    decoder, linear = decoder_prefix(model), linear_layers(model)
    paths = [path for path, _ in model.named_modules() if path.startswith(decoder)]
    for target in [targets] if isinstance(targets, str) else targets:
        pattern = target if isinstance(targets, str) else rf"(.*\.)?{re.escape(target)}"
        matched = [path for path in paths if re.fullmatch(pattern, path)]
        wrong = [path for path in matched if path not in linear]
        if wrong or not matched:
            fault = f"has as {wrong[0]}, which is not a linear layer of a block" if wrong else "lacks in its decoder"
            raise ValueError(
                f"adapter.target_modules names {target}, which the base LLM {fault}; "
                f"its linear layers are {', '.join(names_of(linear))}: name some of these."
            )


def linear_layers(model: Any) -> list[str]:
    """Return the paths of the linear layers, also those written as GPT-2's, in the numbered blocks of a decoder."""
    from transformers.pytorch_utils import Conv1D

    decoder = decoder_prefix(model)
    linear = [path for path, part in model.named_modules() if isinstance(part, torch.nn.Linear | Conv1D)]
    return [path for path in linear if path.startswith(decoder) and any(map(str.isdigit, path.split(".")))]


def names_of(layers: list[str]) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in layers})


def attention_projections(model: Any) -> list[str]:
    """Return the names of the query and value, or else input, projections; raise ValueError if none are known."""
    linear = names_of(linear_layers(model))
    for names in ATTENTION_PROJECTIONS:
        if set(names) <= {*linear}:
            return list(names)
    raise ValueError(
        f"adapter.target_modules is auto, but none of the base LLM's linear layers is known as an attention "
        f"projection: name some of {', '.join(linear)}."
    )


def require_base_llm(model: Any, expected: Mapping[str, str], folder: str) -> None:
    """Raise MismatchError unless a base LLM is the `expected` one, see `describe_base_llm`, of a folder's adapter."""
    given = describe_base_llm(model)
    if "weights" not in expected:
        raise MismatchError(
            f"The adapter in {folder} does not record the weights of its base LLM, because an earlier version of this "
            "project made it: train it again.",
            "adapter",
        )
    comparable = expected["precision"] == given["precision"] != "quantised"
    for name in ("norms", "weights") if comparable else ("norms",):
        if expected[name] != given[name]:
            raise MismatchError(
                f"The adapter in {folder} was trained on the base LLM {expected['name']!r} ({name} "
                f"{expected[name][:12]}), but got {given['name']!r} ({name} {given[name][:12]}): set `source` and "
                "`revision` of the catalog entry `base_llm` to the former, or train the adapter again.",
                "adapter",
            )


def describe_base_llm(model: Any) -> dict[str, str]:
    """Return the name of a base LLM and digests that identify it.

    Returns:
        name: the hub id, or the name of the folder.
        weights: digest of all weights, rounded to bfloat16; it differs for a base LLM and its copy with a merged LoRA.
        precision: "bfloat16" (also for float32, which has the same digest), "float16" or "quantised". Digests of
            different precisions, and those of quantised weights, are not comparable.
        norms: digest of the norms' weights alone, rounded to bfloat16; it is the same in any precision, since
            quantisation keeps norms. Without norm weights it is that of the biases, and without these of sizes alone.
    """
    named = dict(sorted(model.named_parameters()))
    vectors = {name: weights for name, weights in named.items() if weights.dim() == 1}
    norms = {name: weights for name, weights in vectors.items() if name.endswith("weight")}
    text = model.config.get_text_config()
    architecture = f"{text.model_type} {text.hidden_size} {text.num_hidden_layers}".encode()
    quantised = not all(weights.is_floating_point() for weights in named.values())
    half = any(weights.dtype == torch.float16 for weights in named.values())
    folder = Path(model.name_or_path)
    return {
        "name": folder.name if folder.is_absolute() else str(folder),
        "norms": _digest(norms or vectors, architecture),
        "weights": _digest(named, architecture),
        "precision": "quantised" if quantised else "float16" if half else "bfloat16",
    }


def _digest(named: dict[str, Tensor], architecture: bytes) -> str:
    """Digest weights by sums of their bits, which are the same in any order and on any device."""
    digest = hashlib.sha256(architecture)
    for name, weights in named.items():
        bits = weights.detach().to(torch.bfloat16).flatten().view(torch.int16)
        words = functional.pad(bits, (0, -len(bits) % (4 * SUMS_PER_TENSOR))).view(torch.int64)
        sums = words.view(-1, SUMS_PER_TENSOR).sum(0)  # overflow wraps
        digest.update(f"{name} {tuple(weights.shape)}".encode() + sums.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()
