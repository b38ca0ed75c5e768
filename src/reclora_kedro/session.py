"""Sessions of the project: a command that did not end goes on when it is typed again."""

from typing import Any

from kedro.framework.session import KedroSession

from reclora_kedro.hooks.unfinished import was_unfinished


class ResumingSession(KedroSession):
    """Runs as Kedro does, but keeps what fits of a run of the same command that did not end."""

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run pipelines, see ``KedroSession.run``; after a run that did not end, with ``only_missing_outputs``."""
        if was_unfinished(self._project_path, kwargs | {"env": self.store.get("env")}):
            kwargs["only_missing_outputs"] = True
        return super().run(*args, **kwargs)
