"""Progress of a long step: a bar on a terminal or in a notebook, else lines on stderr, and always lines in the log."""

import logging
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

from tqdm import tqdm

SECONDS_PER_LINE = 15

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Progress:
    """A progress bar, and a line every 15 seconds in the log and, without a bar, on stderr.

    Examples:
        >>> with Progress("lens", 300, "rows") as progress:
        ...     for rows in (100, 200):
        ...         progress.update(rows)
        >>> progress.done
        300
    """

    hidden: ClassVar[bool] = False  # whether none is shown in this process

    step: str
    total: int
    unit: str
    done: int = 0
    shown: bool = True  # false for all but one of several processes
    delay: float = 0  # seconds before there is a bar; a step that ends sooner shows none
    at_most: bool = False  # whether early stopping may end the step before its total

    def __post_init__(self) -> None:
        self.shown = self.shown and not self.hidden
        described = {"desc": self.step + ", until validation gets no better" * self.at_most, "unit": f" {self.unit}"}
        in_notebook = "ipykernel" in sys.modules
        hidden = (False if in_notebook else None) if self.shown else True  # None: but on a terminal
        delay = max(self.delay, 2 * in_notebook)  # what takes no time leaves no bars among the outputs
        self._bar = tqdm(total=self.total, initial=self.done, disable=hidden, delay=delay, **described)
        self._began = self._last_line = time.monotonic()
        self._first: tuple[int, float] | None = None  # what was done after the first update, and when

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, count: int = 1) -> None:
        self._bar.update(count)
        self.done += count
        now = time.monotonic()
        if self.shown and now - self._last_line >= SECONDS_PER_LINE:
            self._last_line = now
            level = logging.DEBUG if sys.stderr.isatty() else logging.INFO
            done = f"{self.done:,} of {self.total:,} {self.unit} in {now - self._began:.0f} s"
            logger.log(level, "%s: %s%s", self.step, done, self._pace(now))
        self._first = self._first or (self.done, now)

    def _pace(self, now: float) -> str:
        """Describe the pace since the first update, which also waits for what is prepared once."""
        if self._first is None or self.done == self._first[0]:
            return ""
        rate = (self.done - self._first[0]) / max(now - self._first[1], 1e-9)
        per_second = f"{rate:,.3g}" if rate < 1000 else f"{rate:,.0f}"
        bound = "at most" if self.at_most else "about"
        return f", {per_second} per second, {bound} {(self.total - self.done) / rate:.0f} s to go"

    def show(self, **values: Any) -> None:
        self._bar.set_postfix(values)
