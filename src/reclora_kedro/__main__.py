"""``python -m reclora_kedro``: the project's ``kedro run``, for an installed package."""

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main() -> None:
    """Run pipelines in the current folder, with the configuration given by ``--conf-source``."""
    configure_project(__package__)
    find_run_command(__package__)()


if __name__ == "__main__":
    main()
