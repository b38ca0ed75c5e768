"""Names are known before pipelines are built."""

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from reclora_kedro.configured_names import remember_parameters


class ConfiguredNamesHooks:
    """Hands the environment's names of variants and lenses to the pipelines that are built from them."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the parameters of the session's environment and runtime parameters."""
        remember_parameters(context.config_loader["parameters"])
