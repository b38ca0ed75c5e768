"""The terminal is for people: what the project itself has to say, above the progress bars."""

import logging
import sys

from kedro.framework.hooks import hook_impl
from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm


class TerminalHandler(RichHandler):
    """Prints messages above the progress bars; warnings are left to ``conf/logging.yml``."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
        self.addFilter(lambda record: logging.INFO <= record.levelno < logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message while no bar is there."""
        with tqdm.external_write_mode(sys.stderr):
            super().emit(record)


class TerminalHooks:
    """Shows the messages of a run on a terminal; elsewhere there are warnings, errors and results alone."""

    def __init__(self) -> None:
        self._handler = TerminalHandler()

    @hook_impl(tryfirst=True)  # other hooks have something to say
    def before_pipeline_run(self) -> None:
        """Show messages from now on."""
        if sys.stderr.isatty():
            logging.getLogger("reclora_kedro").addHandler(self._handler)
