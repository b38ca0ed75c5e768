"""Settings and weights of a model of torch in a folder, with the digests of both files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from reclora_kedro.sealed import damage, is_sealed, seal

M = TypeVar("M", bound=nn.Module)


def save_model(model: nn.Module, folder: Path, name: str, config: BaseModel, sizes: BaseModel) -> None:
    """Write ``name.json``, ``name.safetensors`` and their digests."""
    settings = {name: config.model_dump(mode="json"), "sizes": sizes.model_dump(mode="json")}
    (folder / f"{name}.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    seal(folder)


def load_model(folder: Path, name: str, pipeline: str, build: Callable[[Any, Any], M]) -> M:
    """Return the model that `save_model` wrote, equal to the last bit; `pipeline` is what trains it.

    `build` returns the model from its saved config and sizes, with any weights. ValueError is raised for a file that is
    missing or damaged, and for weights of another model, or that are not finite.
    """
    remedy = f"Restore it, or train it again with kedro run --pipelines {pipeline}."
    if is_sealed(folder) and (fault := damage(folder)):  # earlier releases wrote no digests
        raise ValueError(f"The {name} cannot be loaded: {fault}. {remedy}")
    file, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        model = build(settings[name], settings["sizes"])
        file = weights
        model.load_state_dict(load_file(weights))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        fault = f"{file} is damaged or of another model ({' '.join(str(error).split())})"
        raise ValueError(f"The {name} cannot be loaded: {fault}. {remedy}") from error
    for key, values in model.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ValueError(f"The {name} cannot be loaded: {key} in {weights} is not finite. {remedy}")
    return model
