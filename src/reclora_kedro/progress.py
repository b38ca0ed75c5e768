"""Progress of a long step: a bar on a terminal, else lines on stderr, and lines in the log in any case."""

import logging
import sys
import time
from types import TracebackType
from typing import Any, ClassVar, Self

from tqdm import tqdm

SECONDS_PER_LINE = 15

logger = logging.getLogger(__name__)


class Progress:
    """A progress bar, and a line every 15 seconds in the log and, without a bar, on stderr.

    Args:
        shown: whether to show anything; false for all but one of several processes.
        delay: seconds before there is a bar; a step that ends sooner shows none.
        at_most: whether the step may end before its total, as a training does that no longer improves.

    Examples:
        >>> with Progress("lens", 300, "rows") as progress:
        ...     for rows in (100, 200):
        ...         progress.update(rows)
        >>> progress.done
        300
    """

    hidden: ClassVar[bool] = False  # whether none is shown in this process

    def __init__(
        self,
        step: str,
        total: int,
        unit: str,
        done: int = 0,
        shown: bool = True,
        delay: float = 0,
        at_most: bool = False,
    ) -> None:
        shown = shown and not self.hidden
        self.step, self.total, self.unit, self.done, self.shown = step, total, unit, done, shown
        disable, self._bound = None if shown else True, "at most" if at_most else "about"
        description = f"{step} (may end sooner)" if at_most else step
        self._bar = tqdm(total=total, initial=done, desc=description, unit=f" {unit}", disable=disable, delay=delay)
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
            logger.log(
                logging.DEBUG if sys.stderr.isatty() else logging.INFO,
                "%s: %s of %s %s in %.0f s%s",
                self.step,
                f"{self.done:,}",
                f"{self.total:,}",
                self.unit,
                now - self._began,
                self._pace(now),
            )
        self._first = self._first or (self.done, now)

    def _pace(self, now: float) -> str:
        """Describe the pace since the first update, which also waits for what is prepared once."""
        if self._first is None or self.done == self._first[0]:
            return ""
        rate = (self.done - self._first[0]) / max(now - self._first[1], 1e-9)
        per_second = f"{rate:,.3g}" if rate < 1000 else f"{rate:,.0f}"
        return f", {per_second} per second, {self._bound} {(self.total - self.done) / rate:.0f} s to go"

    def show(self, **values: Any) -> None:
        self._bar.set_postfix(values)
