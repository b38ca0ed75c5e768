"""Names by which pipelines are built: those of conf/base, with other values of some parameters."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from kedro_provenance.session import CachingConfigLoader
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"
PARAMETERS = CachingConfigLoader(str(CONF), **CONFIG_LOADER_ARGS | {"default_run_env": "base"})["parameters"]


def names_with(values: Mapping[str, Any] = {}) -> PipelineNames:
    """Return the names that conf/base gives with other values, by the dotted paths of the parameters."""
    parameters = deepcopy(PARAMETERS)
    for path, value in values.items():
        *parents, name = path.split(".")
        block = parameters
        for parent in parents:
            block = block[parent]
        block[name] = value
    return PipelineNames.from_parameters(parameters)
