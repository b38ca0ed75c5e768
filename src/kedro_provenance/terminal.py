"""Messages of the project on the terminal, above the progress bars."""

import logging
import sys

from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from kedro_provenance.packages import project_packages


class TerminalHandler(RichHandler):
    """Prints messages above the progress bars; warnings are left to ``conf/logging.yml``."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
        self.addFilter(lambda record: logging.INFO <= record.levelno < logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message while no bar is there."""
        with tqdm.external_write_mode(sys.stderr):
            super().emit(record)


def show_messages() -> None:
    """Show messages of the project's packages from now on: by the project's own logging, else on a terminal alone."""
    loggers = [logging.getLogger(package) for package in project_packages()]
    for logger in loggers:
        if logger.level == logging.NOTSET:  # Kedro's own configuration names no plug-in
            logger.setLevel(logging.INFO)
    if any(isinstance(each, RichHandler) and each.level <= logging.INFO for each in logging.getLogger().handlers):
        return
    handlers = [handler for logger in loggers for handler in logger.handlers if isinstance(handler, TerminalHandler)]
    if sys.stderr.isatty() and not handlers:
        handler = TerminalHandler()
        for logger in loggers:
            logger.addHandler(handler)
