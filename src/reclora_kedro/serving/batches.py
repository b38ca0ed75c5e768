"""Requests that wait together are answered together: a queue with a deadline, and a thread that works on it."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class QueueFullError(RuntimeError):
    """As many requests wait as may."""


class RequestExpiredError(RuntimeError):
    """A request waited longer than it may, and was dropped before it was computed."""


class _Waiting(NamedTuple):
    request: Any
    rows: int
    future: "Future[Any]"
    expires: float


class Batches(Generic[Request, Result]):
    """A queue of requests, which one thread answers in batches.

    Args:
        name: of the queue, for its thread.
        answer: from the requests of a batch to their results; an error among these is that of its request alone.
        most_rows: in a batch, unless a single request has more.
        most_waiting: requests.
        deadline: seconds that the first request of a batch waits for others.
        timeout: seconds after which a request that waits is dropped.
        observe: called with the rows of each batch.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Request]], Sequence[Result]],
        *,
        most_rows: int,
        most_waiting: int,
        deadline: float,
        timeout: float,
        observe: Callable[[int], object],
    ) -> None:
        self._answer, self._observe = answer, observe
        self._most_rows, self._deadline, self._timeout = most_rows, deadline, timeout
        self._queue: Queue[_Waiting | None] = Queue(most_waiting)
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.qsize()

    async def submit(self, request: Request, rows: int) -> Result:
        """The result of a request, which is so many rows of a batch.

        Raises:
            QueueFullError: too many wait already.
            RequestExpiredError: it waited too long.
        """
        future: Future[Result] = Future()
        try:
            self._queue.put_nowait(_Waiting(request, rows, future, monotonic() + self._timeout))
        except Full:
            raise QueueFullError from None
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Answer what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        held: _Waiting | None = None
        while (first := held or self._queue.get()) is not None:
            batch, rows, held, until = [first], first.rows, None, monotonic() + self._deadline
            while rows < self._most_rows:
                try:
                    more = self._queue.get(timeout=max(0, until - monotonic()))
                except Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                rows += more.rows
                if rows > self._most_rows:
                    held = more
                    break
                batch.append(more)
            self._run([each for each in batch if each.future.set_running_or_notify_cancel()])

    def _run(self, batch: list[_Waiting]) -> None:
        now = monotonic()
        for late in (each for each in batch if each.expires < now):
            late.future.set_exception(RequestExpiredError())
        batch = [each for each in batch if each.expires >= now]
        if not batch:
            return
        self._observe(sum(each.rows for each in batch))
        try:
            results = self._answer([each.request for each in batch])
        except Exception as error:  # those who wait have to learn of it, whatever it is; the thread goes on
            for each in batch:
                each.future.set_exception(error)
            return
        for each, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                each.future.set_exception(result)
            else:
                each.future.set_result(result)
