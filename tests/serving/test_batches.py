"""Requests take turns, and what nobody waits for is not computed."""

import asyncio
from contextlib import contextmanager
from threading import Event
from time import monotonic

import pytest

from reclora_kedro.serving.batches import Batches, QueueClosedError, QueueFullError


class Held:
    """Answers parts by themselves, the first batch only after `go_on`."""

    def __init__(self):
        self.batches, self.begun, self.go_on = [], Event(), Event()

    def __call__(self, parts):
        self.batches.append(list(parts))
        self.begun.set()
        assert self.go_on.wait(5)
        return parts


@contextmanager
def queue(**changes):
    answer = Held()
    batches = Batches("test", answer, **{"max_rows": 4, "max_waiting": 2, "delay": 0, "observe": id} | changes)
    yield batches, answer
    answer.go_on.set()
    batches.close(5)


async def begun(answer, submitted):
    task = asyncio.create_task(submitted)
    assert await asyncio.to_thread(answer.begun.wait, 5)
    return task


def test_a_small_request_is_in_the_next_batch_however_large_the_one_before_it_is():
    async def take_turns():
        with queue() as (batches, answer):
            large = await begun(answer, batches.submit([(part, 2) for part in range(10)]))
            small = asyncio.create_task(batches.submit([("small", 1)]))
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await batches.submit([("too many", 1)])
            answer.go_on.set()
            assert (await large, await small) == ([*range(10)], ["small"])
            assert answer.batches[:2] == [[0, 1], [2, "small"]]

    asyncio.run(take_turns())


def test_parts_of_a_request_whose_sender_has_gone_are_not_computed():
    async def leave():
        with queue() as (batches, answer):
            gone = await begun(answer, batches.submit([(part, 2) for part in range(10)]))
            gone.cancel()
            await asyncio.wait([gone])
            assert batches.waiting == 0
            answer.go_on.set()
            assert await batches.submit([("next", 1)]) == ["next"]
            assert answer.batches == [[0, 1], ["next"]]

    asyncio.run(leave())


def test_a_queue_that_is_closed_refuses_what_waits_and_ends_in_time():
    async def close():
        with queue() as (batches, answer):
            await begun(answer, batches.submit([(0, 4)]))
            waiting = asyncio.create_task(batches.submit([(1, 4), (2, 4)]))
            await asyncio.sleep(0)
            start = monotonic()
            await asyncio.to_thread(batches.close, 0.1)
            assert monotonic() - start < 1
            for late in (waiting, batches.submit([(3, 1)])):
                with pytest.raises(QueueClosedError):
                    await late

    asyncio.run(close())
