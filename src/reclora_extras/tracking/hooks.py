"""Kedro hooks of experiment tracking."""

import logging
from typing import Any, ClassVar

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from reclora_extras.tracking.config import TrackingConfig

logger = logging.getLogger(__name__)


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
                "The run succeeded, but was not logged to MLflow: %s. Once the cause is fixed, the same command "
                "with --only-missing-outputs logs it.",
                error,
            )
