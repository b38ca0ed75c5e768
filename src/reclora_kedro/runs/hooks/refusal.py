"""How a run is refused before it begins."""

import sys
from typing import IO

from kedro.framework.cli.utils import KedroCliError


class RunRefusedError(KedroCliError):
    """A run cannot begin, and nothing was written."""

    def show(self, file: IO | None = None) -> None:
        """Print the message without a stack trace; `kedro run` calls this."""
        print(f"Error: {self.message}", file=file or sys.stderr)
