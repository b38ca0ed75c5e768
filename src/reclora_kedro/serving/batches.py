"""Batching of waiting requests: a queue of their parts, and a thread that computes them."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, Generic, NamedTuple, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


class QueueFullError(RuntimeError):
    """The maximum number of requests is waiting."""


class QueueClosedError(RuntimeError):
    """The service is ending before the request could be computed."""


class _Waiting(NamedTuple):
    part: Any
    rows: int
    future: "Future[Any]"


class Batches(Generic[Part, Result]):
    """A queue of requests, whose parts one thread answers in batches.

    A batch takes one part of each request in turn, so that a small request waits for at most two batches, however large
    the others are; the first part waits `delay` seconds for others. Parts of a request whose client has disconnected
    are not computed. `answer` returns the result of each part; an error as a result concerns its part only.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Part]], Sequence[Result]],
        max_rows: int,
        max_waiting: int,
        delay: float,
        observe: Callable[[int], object],
    ) -> None:
        self._answer, self._observe = answer, observe
        self._max_rows, self._max_waiting, self._delay = max_rows, max_waiting, delay
        self._requests: OrderedDict[int, deque[_Waiting]] = OrderedDict()  # by arrival, or by the last part taken
        self._rows, self._is_closed = 0, False
        self._changed = Condition()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._requests)

    async def submit(self, parts: Sequence[tuple[Part, int]]) -> list[Result]:
        """Return the results of a request's parts, each given with its number of rows; raise one of the errors above.

        When the caller is cancelled, parts that are not being computed leave the queue.
        """
        waiting = deque(_Waiting(part, rows, Future()) for part, rows in parts)
        futures = [each.future for each in waiting]
        with self._changed:
            if self._is_closed:
                raise QueueClosedError
            if len(self._requests) >= self._max_waiting:
                raise QueueFullError
            self._requests[id(waiting)] = waiting
            self._rows += sum(each.rows for each in waiting)
            self._changed.notify()
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        finally:
            with self._changed:
                if self._requests.pop(id(waiting), None):
                    self._rows -= sum(each.rows for each in waiting)
            for future in futures:
                future.cancel()

    def close(self, timeout: float) -> None:
        """Refuse waiting requests, and end after the present batch or `timeout` seconds."""
        with self._changed:
            self._is_closed = True
            for waiting in self._requests.values():
                for each in waiting:
                    if each.future.set_running_or_notify_cancel():
                        each.future.set_exception(QueueClosedError())
            self._requests.clear()
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[_Waiting] | None:
        """Return the next parts, of each request in turn; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._is_closed)
            self._changed.wait_for(lambda: self._rows >= self._max_rows or self._is_closed, self._delay)
            if self._is_closed:
                return None
            batch, rows = list[_Waiting](), 0
            while self._requests:
                request, parts = next(iter(self._requests.items()))
                if batch and rows + parts[0].rows > self._max_rows:
                    break
                part = parts.popleft()
                self._rows -= part.rows
                if parts:
                    self._requests.move_to_end(request)
                else:
                    del self._requests[request]
                if part.future.set_running_or_notify_cancel():
                    batch.append(part)
                    rows += part.rows
            return batch

    def _run(self, batch: list[_Waiting]) -> None:
        self._observe(sum(each.rows for each in batch))
        try:
            results = self._answer([each.part for each in batch])
        except Exception as error:  # those who wait have to learn of it, whatever it is; the thread goes on
            for each in batch:
                each.future.set_exception(error)
            return
        for each, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                each.future.set_exception(result)
            else:
                each.future.set_result(result)
