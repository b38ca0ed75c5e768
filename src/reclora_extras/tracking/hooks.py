"""Settings and Kedro hooks of experiment tracking."""

import logging
import re
from importlib.util import find_spec
from typing import Any, ClassVar

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from pydantic import Field, field_validator

from kedro_provenance.parameters import Block
from reclora_extras import install_line

logger = logging.getLogger(__name__)


class TrackingConfig(Block):
    """Where runs are logged; `uri` is None where they are not."""

    uri: str | None
    experiment: str = Field(min_length=1)
    model: str = Field(min_length=1)

    @field_validator("uri")
    @classmethod
    def _is_an_address_that_mlflow_takes(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        if not re.match(r"(?!file:)[a-z][a-z+\d-]+:", uri):  # MLflow 3.17 refuses folders
            raise ValueError(f"{uri!r} is no database or server; expected one, such as sqlite:///data/mlflow.db")
        if find_spec("mlflow") is None:
            raise ValueError(f"MLflow is not installed: `{install_line('mlflow')}`, or set null")
        return uri


class TrackingHooks:
    """Logs each run that has succeeded where `tracking.uri` has a value, and imports MLflow only then."""

    BLOCKS: ClassVar = {"tracking": TrackingConfig}
    changes_results = False

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl(trylast=True)  # once the manifest is saved
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Log what the run's outputs now hold; a failure is a warning, as the run itself has succeeded."""
        parameters = self._context.config_loader["parameters"]
        if parameters["tracking"]["uri"] is None:
            return
        from mlflow.exceptions import MlflowException

        from reclora_extras.tracking.log import log_run

        try:
            tracking = TrackingConfig.model_validate(parameters["tracking"])
            logger.info(log_run(tracking, run_params, parameters, pipeline, catalog))
        except (MlflowException, OSError) as error:
            logger.warning(
                "The run has succeeded, but was not logged to MLflow: %s. Once the cause is gone, the same command "
                "with --only-missing-outputs logs it.",
                error,
            )
