"""Runs go through Kedro's default runner."""

from typing import Any

from kedro.framework.hooks import hook_impl

from reclora_kedro.runs.hooks.refusal import RunRefusedError


class RunnerHooks:
    """Refuses runners that keep less than what a run of this project promises."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Look at the name of the runner, which is all that Kedro tells hooks of it.

        Raises:
            RunRefusedError: it is not SequentialRunner.
        """
        runner = run_params["runner"].partition(" object at ")[0].rpartition(".")[2]
        if runner not in ("SequentialRunner", "None"):  # None stands for the default one
            raise RunRefusedError(
                f"This project does not run with {runner}. Nothing was written. Results that can be reproduced, atomic "
                "saves, checkpoints and the run manifest need nodes that run one after the other in one process, which "
                "calls the hooks: leave out --runner. To train on several GPUs, or in several processes, set "
                "`processes` in the `training` block of a variant."
            )
