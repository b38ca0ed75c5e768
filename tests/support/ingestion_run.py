"""The ingestion step through Kedro, in any environment: its configuration, catalog and parameters are the real ones."""

from pathlib import Path
from typing import Any

import polars as pl
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner
from kedro.validation import ParameterValidator

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.failures import explain_failure
from kedro_provenance.lock import lock_data
from kedro_provenance.session import CachingConfigLoader
from kedro_provenance.start import require_inputs
from named import names_with
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.pipelines.ingestion import create_pipeline
from reclora_kedro.settings import CONFIG_LOADER_ARGS
from starting import start

NAMES = names_with()


def run_ingestion(conf: Path, environment: str) -> DataCatalog:
    """Run the step on what the environment's catalog names, relative to the working directory."""
    config = CachingConfigLoader(str(conf), env=environment, **CONFIG_LOADER_ARGS)
    validated = ParameterValidator({"ingestion": create_pipeline(NAMES)}).validate_raw_params(config["parameters"])
    catalog = DataCatalog.from_config(config["catalog"], save_version="2026-01-01T00.00.00.000Z")
    catalog["params:ingestion"], catalog["params:engine"] = validated["ingestion"], validated["engine"]
    SequentialRunner().run(create_pipeline(NAMES), catalog)
    return catalog


def refusal(conf: Path, environment: str) -> str | None:
    """Run the step in the working directory as a session does, with its hooks: what is said if it is refused."""
    config = CachingConfigLoader(str(conf), env=environment, **CONFIG_LOADER_ARGS)
    catalog = AtomicCatalog.from_config(config["catalog"], save_version="2026-01-01T00.00.00.000Z")
    catalog["params:ingestion"] = IngestionConfig.model_validate(config["parameters"]["ingestion"])
    catalog["params:engine"] = LOCAL
    run = start(Path.cwd(), create_pipeline(NAMES), catalog, env=environment, pipeline_names=["ingestion"])
    with run.held:
        try:
            require_inputs(run)
            lock_data(run)
            SequentialRunner().run(run.pipeline, catalog)
        except Exception as error:
            explain_failure(error, run)
            return "\n".join([str(error), *getattr(error, "__notes__", [])])
    return None


def canonical_tables(catalog: DataCatalog) -> list[pl.DataFrame]:
    """Interactions, items and users."""
    return [catalog.load(name).lazy().collect() for name in ("interactions", "items", "users")]


def counts(catalog: DataCatalog) -> dict[str, int]:
    """Rows by check, of the ingestion report."""
    return {row["check"]: row["rows"] for row in catalog.load("ingestion_report")}


def dropped(catalog: DataCatalog) -> dict[str, int]:
    """Rows by the rule that dropped them."""
    report: list[dict[str, Any]] = catalog.load("ingestion_report")
    return {row["check"]: row["rows"] for row in report if row["rule"].startswith("dropped") and row["rows"]}
