"""The terminal is for people: what the project itself has to say, above the progress bars."""

import logging
import sys

from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from kedro_provenance.project import PACKAGES
from kedro_provenance.run import Run

LOGGERS = [logging.getLogger(package) for package in PACKAGES]


class TerminalHandler(RichHandler):
    """Prints messages above the progress bars; warnings are left to ``conf/logging.yml``."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
        self.addFilter(lambda record: logging.INFO <= record.levelno < logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message while no bar is there."""
        with tqdm.external_write_mode(sys.stderr):
            super().emit(record)


def show_messages(run: Run) -> None:
    """Show messages on a terminal from now on; elsewhere there are warnings, errors and results alone."""
    if sys.stderr.isatty() and not any(isinstance(handler, TerminalHandler) for handler in LOGGERS[0].handlers):
        handler = TerminalHandler()
        for logger in LOGGERS:
            logger.addHandler(handler)
