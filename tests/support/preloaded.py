"""All that processes of tests import sooner or later: `forked` has the server of processes do so first."""

import atexit
import gc
from importlib import import_module

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

for name in MODULES:
    import_module(name)
gc.freeze()  # a process that looks through all of this for garbage takes half a second each time
atexit.register(gc.unfreeze)  # else bindings of Triton's would list what is left
