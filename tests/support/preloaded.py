"""All that processes of tests import and read sooner or later: `forked` has the server of processes do so first.

No run and no data: threads that they start would be missing in the processes that the server forks.
"""

import atexit
import ctypes
import gc
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest

MODULES = (
    "kedro.framework.session.store",
    "kedro_telemetry.plugin",
    "kedro_viz.integrations.kedro.hooks",
    *(f"kedro_datasets.{name}" for name in ("json.json_dataset", "pandas.csv_dataset", "pandas.parquet_dataset")),
    *("hypothesis", "mcp.server.mcpserver", "plotly.express", "pyarrow.dataset", "uvicorn"),
    *("pandera.backends.polars.register", "sklearn.ensemble", "transformers.models.llama.modeling_llama"),
    *("reclora_kedro.settings", "reclora_kedro.serving.app"),
    *(
        f"reclora_kedro.pipelines.{name}"
        for name in ("ingestion", "history", "lens", "finetuning", "scoring", "evaluation", "export")
    ),
    *(
        f"reclora_kedro.baselines.{name}"
        for name in ("boosted_trees", "lens_probe", "prompt_likes", "statistics_probe")
    ),
)


SERVER, PR_SET_PDEATHSIG = os.getpid(), 1


def end_with_server():
    """Have a process that the server has forked end with it, also when a signal ends the tests: none is left behind."""
    if os.getppid() == SERVER:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read_code():
    """Make the fingerprints of the default flow, and read the configuration: a first run takes 2 s less."""
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project
    from omegaconf import OmegaConf

    from kedro_provenance.manifest import installed_packages
    from kedro_provenance.project import code_of
    from parsed_once import parse_texts_once

    parse_texts_once(pytest.MonkeyPatch())
    root, path = Path(__file__).parents[2], [*sys.path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # which is put back, as what follows changes it
        bootstrap_project(root)
    sys.path[:] = path
    for folder in ("base", "test"):
        for file in (root / "conf" / folder).glob("*.yml"):
            OmegaConf.load(file)
    for node in pipelines["__default__"].nodes:
        code_of(node.func)
    installed_packages()


os.register_at_fork(after_in_child=end_with_server)
for name in MODULES:
    import_module(name)
read_code()
gc.freeze()  # a process that looks through all of this for garbage takes half a second each time
atexit.register(gc.unfreeze)  # else bindings of Triton's would list what is left
