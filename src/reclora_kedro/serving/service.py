"""The service without HTTP: a model, the journal, and the queues of waiting requests."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Sequence
from threading import Lock, Thread
from time import time
from typing import Any, TypeVar

import polars as pl
import psutil

from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.serving.batches import Batches
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.journal import Changes, Content, Journal
from reclora_kedro.serving.journal_databases import journal_database
from reclora_kedro.serving.journal_tables import item_values
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import Answer, Request, ServedModel, Snapshot, answer_by_lens, answer_by_llm

logger = logging.getLogger(__name__)

Look = Callable[[Snapshot], Any]
"""Function that reads the current log, or makes a `Request` with it, which is then answered; both share a queue."""
T = TypeVar("T")
SPARE_MEMORY = 1.2  # times the memory of a model that has to be free for another one
WITHHELD = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
CLOSING_SHARE = 0.2  # share of the seconds of a shutdown that are kept for the batches being computed
PAIRS_OF_REASONS = 8  # pairs that the lens scores in the time that the reasons of one take


class RequestExpiredError(RuntimeError):
    """A request was not answered in time; its remaining parts are not computed."""


class ReloadRefusedError(RuntimeError):
    """Another model cannot take over; the old one stays."""


class Service:
    """A model that answers, and the events since it was made; JournalError if the journal is of no use.

    Nothing is stored or answered of those who are `forgotten` at the time, and no answer reads the events that updates
    have `withheld` (user_id, item_id, timestamp).
    """

    def __init__(
        self,
        config: ServiceConfig,
        load: Callable[[], ServedModel],
        metrics: Metrics,
        forgotten: Callable[[], ForgottenUsers] = lambda: NOBODY,
        withheld: Callable[[], pl.DataFrame] = lambda: pl.DataFrame(schema=WITHHELD),
    ) -> None:
        self.config, self.metrics, self._load, self._withheld = config, metrics, load, withheld
        self._reloading, self._swapping = Lock(), Lock()
        database = journal_database(config.journal)
        database.require_usable()  # before the current model takes its time, which is loaded before anything is written
        current_model = load()
        if current_model.llm is not None and config.model == "llm":
            current_model.llm.result()
        history = current_model.about.get("history", ())
        if any(each.get("decision", {}).get("journal_events", 0) for each in history):  # an update has read some
            database.require_events()
        self.journal = Journal(database, self._listen, metrics.journal_fault, forgotten)
        try:
            self._take_over(current_model)
            self.since = time()
        except BaseException:
            self.journal.close()
            raise
        # A full disk, which opening needs no room on, is known before the first event. Not sooner: what other services
        # have added meanwhile is told to the model that has taken over.
        self.journal.try_out()
        limits = (config.max_waiting, config.deadline_ms / 1000)
        self._lens: Batches[Look, Any] = Batches(
            "lens", self._answer_by_lens, config.rows_per_batch, *limits, metrics.rows("lens")
        )
        self._llm: Batches[Answer, Answer] = Batches(
            "llm", _answer_by_llm, config.prompts_per_batch, *limits, metrics.rows("llm")
        )
        metrics.watch_queues({"lens": lambda: self._lens.waiting, "llm": lambda: self._llm.waiting})

    @property
    def current_model(self) -> ServedModel:
        return self._snapshot.current_model

    @property
    def live(self) -> LiveLog:
        return self._snapshot.live

    async def look(self, look: Callable[[Snapshot], T]) -> T:
        """Return the result of a function of the current snapshot; for what it raises, see `answer`."""
        [result] = await self._in_time(self._lens.submit([(look, 0)]))
        return result

    async def answer(self, parts: Sequence[tuple[Callable[[Snapshot], Request], int]]) -> list[Answer]:
        """Answer the parts of a request: functions of the snapshot, with the approximate number of pairs of each.

        QueueFullError is raised if too many requests wait, RequestExpiredError if it was not answered in time.
        """
        return await self._in_time(self._answer(parts))

    async def _answer(self, parts: Sequence[tuple[Callable[[Snapshot], Request], int]]) -> list[Answer]:
        answers: list[Answer] = await self._lens.submit(parts)
        shortlists = [answer for answer in answers if answer.request.model == "llm" and answer.fallback is None]
        pieces = [answer.split(self.config.prompts_per_batch) for answer in shortlists]
        if prompts := [(piece, len(piece.items)) for own in pieces for piece in own]:
            await self._llm.submit(prompts)
        for answer, own in zip(shortlists, pieces, strict=True):
            answer.join(own)
        return answers

    async def _in_time(self, result: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self.config.timeout_seconds):
                return await result
        except TimeoutError:
            raise RequestExpiredError from None

    def reload(self, chosen_by: Hashable = None) -> bool:
        """Load the model `chosen_by` something, unless the same chose the current one; return whether it is another.

        ReloadRefusedError is raised for one that cannot be loaded or does not answer, or without memory for two.
        """
        with self._reloading:
            old = self.current_model
            if chosen_by is not None and chosen_by == old.chosen_by:
                return False
            if (free := psutil.virtual_memory().available) < SPARE_MEMORY * old.bytes:
                raise ReloadRefusedError(
                    f"{free >> 20} MiB of memory are free, but two models are in memory for a moment, and this "
                    f"one takes {old.bytes >> 20} MiB. The old model stays: free memory, or restart the service."
                )
            try:
                current_model = self._load()
                self._take_over(current_model, _probe)
                self.since = time()
            except Exception as error:
                logger.exception("The current model cannot be loaded; the previous one stays.")
                raise ReloadRefusedError(f"The current model cannot be loaded: {error} The old model stays.") from error
            return dict(current_model.versions) != dict(old.versions)

    def _listen(self, change: Changes | Content) -> None:
        self.live.apply(change)
        if self.live.items_wait and item_values(change.events):  # perhaps of another service, whose route does not wait
            Thread(target=self._take_items_quietly, name="items", daemon=True).start()

    def take_items(self) -> None:
        """Have a model that reads all items of the journal take over, unless the current one does."""
        with self._reloading:
            if self.live.items_wait:
                self._take_over(self.current_model)

    def _take_items_quietly(self) -> None:
        try:
            self.take_items()
        except Exception:
            logger.exception("Answers do not read new items; the next item that is sent tries again.")

    def close(self) -> None:
        """Refuse waiting requests, finish batches and writes, and release the journal."""
        seconds = CLOSING_SHARE * self.config.shutdown_seconds
        self._llm.close(seconds / 2)
        self._lens.close(seconds / 2)
        self.journal.close()

    def _take_over(self, current_model: ServedModel, probe: Callable[[Snapshot], None] = lambda _: None) -> None:
        """Let a model that passes a probe answer from now on, with all that the journal holds.

        Requests in flight finish with the old one. Events that arrive while its snapshot is made are added to it.
        """
        before = self.journal.content()
        current_model = current_model.with_items(item_values(before.events))
        rows = self._withheld().select(pl.col("user_id", "item_id").cast(pl.String), "timestamp").rows()
        snapshot = Snapshot.take(
            current_model, LiveLog(current_model.log, current_model.ingestion, before, frozenset(rows))
        )
        probe(snapshot)

        def swap(content: Content) -> None:
            applied = len(before.events)
            adds_only = content._replace(events=content.events[:applied]) == before
            snapshot.live.apply(Changes(content.events[applied:]) if adds_only else content)
            with self._swapping:
                self._snapshot = snapshot

        self.journal.attach(swap)
        self.metrics.current_model(current_model.name)
        if snapshot.live.items_wait:  # which were added meanwhile
            self._take_over(current_model, probe)

    def _answer_by_lens(self, looks: Sequence[Look]) -> list[Any]:
        self.journal.refresh()
        before = self._snapshot
        snapshot = before.brought_up_to_date()
        with self._swapping:
            if self._snapshot is before:
                self._snapshot = snapshot
        results = [_tried(look, snapshot) for look in looks]
        answers = iter(answer_by_lens([result for result in results if isinstance(result, Request)], snapshot))
        return [next(answers) if isinstance(result, Request) else result for result in results]


def _answer_by_llm(answers: Sequence[Answer]) -> Sequence[Answer]:
    for current_model in {id(answer.now.current_model): answer.now.current_model for answer in answers}.values():
        answer_by_llm([answer for answer in answers if answer.now.current_model is current_model])
    return answers


def _tried(look: Look, snapshot: Snapshot) -> Any:
    """Return a function's result, or its error, so that it does not affect the others of its batch."""
    try:
        return look(snapshot)
    except Exception as error:
        return error


def _probe(snapshot: Snapshot) -> None:
    answers = answer_by_lens([Request(rank=True, user=str(snapshot.log.users["user_id"][0]), n=1)], snapshot)
    if snapshot.current_model.llm is not None:
        snapshot.current_model.llm.result()
        if answers[0].fallback is None:
            answer_by_llm(answers)
