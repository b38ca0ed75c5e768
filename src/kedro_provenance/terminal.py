"""Messages of the project on stderr; on a terminal, above the progress bars."""

import logging
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from kedro_provenance.project import project_packages

logger = logging.getLogger(__name__)


class TerminalHandler(RichHandler):
    """Prints messages above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(sys.stderr):
            super().emit(record)


class PlainHandler(logging.Handler):
    """Writes messages to stderr, one per line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def show_messages() -> None:
    """Show messages of the project's packages from now on: by the project's own logging, else on stderr."""
    leave_out_unwritable_logs()
    loggers = [logging.getLogger(package) for package in (*project_packages(), __package__)]
    for logger in loggers:
        if logger.level == logging.NOTSET:  # Kedro's own configuration names no plug-in
            logger.setLevel(logging.INFO)
    if any(isinstance(each, RichHandler) and each.level <= logging.INFO for each in logging.getLogger().handlers):
        return
    handler: logging.Handler = PlainHandler()
    if sys.stderr.isatty():
        handler = TerminalHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
    handler.addFilter(lambda record: record.levelno < logging.WARNING)  # `conf/logging.yml` handles warnings
    handler.setLevel(logging.INFO)
    for logger in loggers:
        if not any(isinstance(each, TerminalHandler | PlainHandler) for each in logger.handlers):
            logger.addHandler(handler)


def leave_out_unwritable_logs() -> None:
    """Log to the terminal alone where a log file cannot be written, which would leave a stack trace per message."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, logging.FileHandler) and each.stream is None]:
        file = Path(handler.baseFilename)
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            root.removeHandler(handler)
            logger.warning("%s cannot be written by this user: messages only go to the terminal.", file)
