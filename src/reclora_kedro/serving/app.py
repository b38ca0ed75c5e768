"""The routes of the service."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from sqlite3 import OperationalError
from time import time
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
import polars as pl
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reclora_kedro.interactions.plausible_times import believed_seconds
from reclora_kedro.interactions.schema import field_names
from reclora_kedro.serving.batches import QueueFullError, RequestExpiredError
from reclora_kedro.serving.guard import Guard, too_many
from reclora_kedro.serving.journal import Event
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.models import Answer, Ask, Snapshot
from reclora_kedro.serving.page import Page
from reclora_kedro.serving.problems import ProblemError, invalid_request, unknown
from reclora_kedro.serving.service import ReloadRefusedError, Service
from reclora_kedro.serving.shapes import (
    Accepted,
    Events,
    OfOneUser,
    PastEvent,
    Recommend,
    Recommendations,
    RecommendMany,
    Score,
    Scores,
)
from reclora_kedro.serving.tools import add_tools

logger = logging.getLogger(__name__)

EVENTS_SHOWN = 20  # of a user
TEXT_NEIGHBOURS = 10

Json = dict[str, Any]


def create_app(
    service: Service,
    token: str | None = None,
    newest: Callable[[], str | None] = lambda: None,
    roll_back: Callable[[], str | None] | None = None,
) -> FastAPI:
    """The service over HTTP.

    Args:
        service: what answers; it is closed when the app shuts down.
        token: which requests have to bear; None: they need none.
        newest: gives the version of the champion's alias; the champion is loaded when that changes.
        roll_back: names the champion before the present one, and gives the version of the alias; None: it is refused.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reload = asyncio.create_task(_reload_when_told(service, newest))
        async with tools:
            yield
        reload.cancel()
        with suppress(asyncio.CancelledError):
            await reload
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="RecLoRA for Kedro",
        summary="Recommendations of the champion, which know every event at once",
        version=version("reclora-kedro"),
        lifespan=lifespan,
    )
    app.add_middleware(Guard, config=service.config, token=token, metrics=service.metrics)
    if service.config.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=service.config.allowed_origins, allow_headers=["*"])
    _add_problems(app, service)
    routes = Routes(service, roll_back)
    routes.add_to(app)
    Page(routes).add_to(app)
    tools = add_tools(app, routes)
    return app


async def _reload_when_told(service: Service, newest: Callable[[], str | None]) -> None:
    """Reload the champion on SIGHUP, and when another version of its alias is there."""
    told, loop, seconds = asyncio.Event(), asyncio.get_running_loop(), service.config.reload_seconds
    tried: str | None = None
    with suppress(RuntimeError, ValueError):  # outside of the main thread; POST /model/reload is left there
        loop.add_signal_handler(signal.SIGHUP, told.set)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), seconds)
        try:
            alias = await asyncio.to_thread(newest)
            if told.is_set() or alias not in (service.champion.alias, tried):
                wanted = None if told.is_set() else alias
                tried = alias
                told.clear()
                await asyncio.to_thread(service.reload, wanted)
        except Exception as error:  # whatever is wrong with the new champion, the old one goes on
            logger.warning("%s", error)


def _add_problems(app: FastAPI, service: Service) -> None:
    """Answer errors as problems."""

    @app.exception_handler(ProblemError)
    async def refused(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return invalid_request(error).response()

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return unknown("route", request.url.path, [getattr(route, "path", "") for route in app.routes]).response()
        return ProblemError(error.status_code, "refused", "The request is refused", f"{error.detail}.").response()

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        detail = "The service failed; its log says where. Nothing else is known of the request."
        return ProblemError(500, "failed", "The service failed", detail).response()

    @app.exception_handler(QueueFullError)
    async def full(_: Request, __: Exception) -> Response:
        return too_many(f"{service.config.max_waiting} requests wait already (service.max_waiting).", 1).response()

    @app.exception_handler(RequestExpiredError)
    async def expired(_: Request, __: Exception) -> Response:
        seconds = service.config.timeout_seconds
        detail = f"The request waited {seconds:g} s (service.timeout_seconds) and was not computed. Try again later."
        return ProblemError(503, "timed-out", "The request timed out", detail, headers={"retry-after": "1"}).response()

    @app.exception_handler(OperationalError)
    async def journal_failed(_: Request, error: Exception) -> Response:
        detail = (
            f"The journal cannot be written: {error}. Nothing of the request was stored. Free disk space, or repair it."
        )
        return ProblemError(507, "not-stored", "The events are not stored", detail).response()

    @app.exception_handler(ReloadRefusedError)
    async def not_reloaded(_: Request, error: Exception) -> Response:
        return ProblemError(503, "not-reloaded", "The champion was not reloaded", str(error)).response()


class Routes:
    """What each route answers."""

    def __init__(self, service: Service, roll_back: Callable[[], str | None] | None) -> None:
        self.service, self._config, self._roll_back = service, service.config, roll_back

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        app.post("/recommend", response_model=None, responses=_ok(Recommendations))(self.recommend)
        app.post("/score", response_model=None, responses=_ok(Scores))(self.score)
        app.post("/events", response_model=None, responses=_ok(Accepted))(self.add_events)
        app.put("/events", response_model=None, responses=_ok(Accepted))(self.replace_events)
        app.get("/users/{user_id:path}", response_model=None)(self.user)
        app.delete("/users/{user_id:path}/events", response_model=None)(self.drop_events)
        app.get("/items", response_model=None)(self.items)
        app.get("/items/{item_id:path}/neighbours", response_model=None)(self.item_neighbours)
        app.get("/model", response_model=None)(self.model)
        app.post("/model/reload", response_model=None)(self.reload)
        app.post("/model/rollback", response_model=None)(self.rollback)
        app.get("/health/live", response_model=None)(self.live)
        app.get("/health/ready", response_model=None)(self.ready)
        app.get("/metrics", response_model=None)(self.metrics)

    async def recommend(self, body: Recommend | RecommendMany) -> Response:
        """The best items of a user, or of many."""
        if isinstance(body, Recommend):
            return JSONResponse(await self.recommended(body))
        _require_most("requests", len(body.requests), self._config.max_requests, "max_requests")
        answers = await asyncio.gather(*map(self.recommended, body.requests))
        return JSONResponse({"answers": answers})

    async def recommended(self, body: Recommend) -> Json:
        """The best items of a user."""
        _require_most("n", body.n, self._config.max_items, "max_items")
        items = None if body.candidates is None else self._item_indices("candidates", body.candidates)
        known = self.service.live.items
        ask = self._ask(body, rank=True)
        ask.items, ask.n, ask.include_seen = items, body.n, body.include_seen
        ask.excluded = np.array([known[item] for item in body.exclude if item in known], dtype=np.int64)
        ask.allowed = self._allowed(body.filter)
        return self._said(body, await self.service.answer(ask))

    async def score(self, body: Score) -> Response:
        """How likely the user is to like each of the items."""
        return JSONResponse(await self.scored(body))

    async def scored(self, body: Score) -> Json:
        """The same as plain data."""
        ask = self._ask(body, rank=False)
        ask.items = self._item_indices("items", body.items)
        answer = await self.service.answer(ask)
        if answer.user is None:
            raise unknown("user", str(body.user), answer.now.current.users)
        said = self._said(body, answer)
        said["scores"] = [{name: value for name, value in item.items() if name != "rank"} for item in said.pop("items")]
        del said["fallback"]
        return said

    async def add_events(self, body: Events) -> Response:
        """Add events, all or none; the answer means that they are durable and that the next answer knows them."""
        return JSONResponse(await self.added(body, replace=False))

    async def replace_events(self, body: Events) -> Response:
        """The same; an event whose event_id is known replaces the earlier one."""
        return JSONResponse(await self.added(body, replace=True))

    async def added(self, body: Events, replace: bool) -> Json:
        """What became of events."""
        _require_most("events", len(body.events), self._config.max_events, "max_events")
        events = [
            self._event(
                f"events.{place}", event, self._user_id(event.user), event.event_id or uuid4().hex, event.request_id
            )
            for place, event in enumerate(body.events)
        ]
        added = await asyncio.wrap_future(self.service.add(events, replace))
        self.service.metrics.events(added, len(events) - added)
        items = self.service.live.items
        waiting = [event.item_id for event in events if event.item_id not in items]
        return {"accepted": added, "duplicates": len(events) - added, "unknown_items": list(dict.fromkeys(waiting))}

    async def drop_events(self, user_id: str) -> Response:
        """Drop the user's events from the journal and from all answers; what was trained on them is another matter."""

        def known(now: Snapshot) -> bool:
            if user_id not in now.current.users:
                raise unknown("user", user_id, now.current.users)
            return True

        await self.service.look(known)
        deleted = await asyncio.wrap_future(self.service.journal.drop_user(user_id, int(time())))
        note = "Tables and trained weights still hold them until `kedro run --pipelines forget` has made new versions."
        return JSONResponse({"user": user_id, "deleted_from_journal": deleted, "note": note})

    async def user(self, user_id: str) -> Response:
        """A user's profile, latest events, and what the lens and the gates make of them."""
        return JSONResponse(await self.described_user(user_id))

    async def described_user(self, user_id: str) -> Json:
        """The same as plain data."""

        def look(now: Snapshot) -> Json:
            if (user := now.current.users.get(user_id)) is None:
                raise unknown("user", user_id, now.current.users)
            log, events = now.log, now.log.sequences
            first, end = int(events.starts[user]), int(events.ends[user])
            shown = range(end - 1, max(first, end - EVENTS_SHOWN) - 1, -1)
            latest = [
                _item(now.live, int(events.item_index[event]))
                | {"rating": float(events.rating[event]), "liked": bool(events.label[event])}
                | {"time": _rfc3339(int(events.timestamp[event]))}
                for event in shown
            ]
            profile = log.users.row(user, named=True)
            fields = {name: profile[name] for name in field_names(log.users) if profile[name] is not None}
            said = {"user": user_id, "profile": fields, "events": end - first, "latest": latest}
            return said | {"lens_has_learned_from_user": now.learned_from(user), "gates": now.gates_of(user)}

        return await self.service.look(look)

    async def items(
        self, q: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1)] = 20
    ) -> Response:
        """Items whose title has the text, or whose id it is."""
        return JSONResponse(await self.found_items(q, limit))

    async def found_items(self, q: str, limit: int) -> Json:
        """The same as plain data."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            items, live = now.log.items, now.live
            title = pl.col("title").str.to_lowercase().str.contains(q.lower(), literal=True)
            found = items.with_row_index("place").filter(title | (pl.col("item_id").cast(pl.String) == q))
            return {"items": [_item(live, place) for place in found["place"].head(limit)], "found": found.height}

        return await self.service.look(look)

    async def item_neighbours(self, item_id: str, limit: Annotated[int, Query(ge=1)] = 10) -> Response:
        """Items that the same users took, and items whose texts are near, each with its weight."""
        [item] = self._item_indices("item", [item_id]).tolist()
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            live = now.live
            [(near, weights)] = now.neighbours.nearest(np.array([item]))
            by_users = near[np.argsort(-weights, kind="stable")[:limit]]
            weight_of = dict(zip(near.tolist(), weights.tolist(), strict=True))
            said = _item(live, item)
            said["by_users"] = [_item(live, other) | {"weight": weight_of[other]} for other in by_users.tolist()]
            said["by_text"] = [_item(live, other) | {"cosine": near} for other, near in now.alike(item, limit)]
            return said

        return JSONResponse(await self.service.look(look))

    async def model(self) -> Response:
        """The champion: its versions, how it did, what it reads."""
        return JSONResponse(self.described_model())

    def described_model(self) -> Json:
        """The same as plain data."""
        champion, columns = self.service.champion, self.service.champion.ingestion.interactions
        reads = "rating" if columns.rating else "clicked" if columns.has_impressions else "user and item alone"
        example = {"user": str(champion.log.users["user_id"][0]), "n": 5, "explain": True}
        said = {
            "version": champion.name,
            "versions": dict(champion.versions),
            "since": _rfc3339(int(self.service.since)),
            "candidates": champion.kind,
            "order": champion.order,
            "model": self._config.model,
            "llm": None if champion.llm is None else champion.llm.variant,
            "users": champion.log.users.height,
            "items": champion.log.items.height,
            "an_event_has": reads,
            "example": {"POST /recommend": example},
        }
        return said | dict(champion.about)

    async def reload(self) -> Response:
        """Read the champion's alias again."""
        changed = await asyncio.to_thread(self.service.reload)
        return JSONResponse({"version": self.service.champion.name, "changed": changed})

    async def rollback(self) -> Response:
        """Name the champion before this one, as `kedro run --pipelines rollback` does, and let it answer."""
        return JSONResponse(await self.rolled_back())

    async def rolled_back(self) -> Json:
        """The same as plain data."""
        before = self.service.champion.versions
        try:
            if self._roll_back is None:
                raise ValueError("This service was given no project whose champion it could name.")
            alias = await asyncio.to_thread(self._roll_back)
        except Exception as error:  # whatever is in the way, the champion stays
            logger.warning("The champion was not rolled back: %s", error)
            raise ProblemError(409, "not-rolled-back", "The champion stays", str(error)) from error
        await asyncio.to_thread(self.service.reload, alias)  # unless it has been already, as the alias has moved
        return {"version": self.service.champion.name, "changed": self.service.champion.versions != before}

    async def live(self) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "live"})

    async def ready(self) -> Response:
        """Whether requests are answered in time."""
        await self.service.look(lambda now: None)
        return JSONResponse({"status": "ready", "version": self.service.champion.name})

    async def metrics(self) -> Response:
        """Counts for Prometheus."""
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _ask(self, body: OfOneUser, rank: bool) -> Ask:
        model = body.model or self._config.model
        if model == "llm" and self.service.champion.llm is None:
            detail = "The service has no LLM, as service.variant is null: ask the lens, or name a variant there."
            raise ProblemError(422, "no-llm", "The LLM is not served", detail)
        history = tuple(
            self._event(f"history.{place}", event, "", "") for place, event in enumerate(body.history or ())
        )
        _require_most("history", len(history), self._config.max_events, "max_events")
        history = tuple(event for event in history if event.item_id in self.service.live.items)
        return Ask(rank, body.user, history, explain=body.explain, model=model)

    def _said(self, body: OfOneUser, answer: Answer) -> Json:
        now, live = answer.now, answer.now.live
        said = []
        for place, item in enumerate(answer.items.tolist()):
            entry = _item(live, item) | {"score": None, "rank": place + 1}
            if answer.scores is not None:
                entry["score"] = float(answer.scores[place])
            if answer.because is not None:
                entry["because"] = answer.because[place] | {
                    "neighbours": [
                        _item(live, near["item"]) | {"weight": near["weight"]}
                        for near in answer.because[place]["neighbours"]
                    ]
                }
            said.append(entry)
        return {
            "user": body.user,
            "model": answer.ask.model,
            "version": now.champion.name,
            "as_of": _rfc3339(now.as_of),
            "request_id": body.request_id or uuid4().hex,
            "items": said,
            "fallback": answer.fallback,
        }

    def _item_indices(self, member: str, ids: list[str]) -> np.ndarray:
        _require_most(member, len(ids), self._config.max_items, "max_items")
        known = self.service.live.items
        for item in ids:
            if item not in known:
                raise unknown("item", item, known)
        return np.array([known[item] for item in dict.fromkeys(ids)], dtype=np.int32)

    def _allowed(self, values: Mapping[str, list[str]]) -> np.ndarray | None:
        if not values:
            return None
        items = self.service.champion.log.items
        fields = field_names(items)
        conditions = []
        for field, wanted in values.items():
            if field not in fields:
                raise unknown("field", field, fields, 422)
            conditions.append(
                pl.col(field).str.split(",").list.eval(pl.element().str.strip_chars().is_in(wanted)).list.any()
            )
        return items.select(pl.all_horizontal(conditions).fill_null(False)).to_series().to_numpy()

    def _user_id(self, user_id: str) -> str:
        if self.service.live.user_type == pl.Int64 and not (user_id.lstrip("-").isdigit() and len(user_id) < 19):
            detail = f"The user {user_id[:100]!r} is no whole number, as all users of the log are."
            raise ProblemError(422, "invalid-request", "The request is not of the right shape", detail)
        return user_id

    def _event(self, where: str, event: PastEvent, user: str, event_id: str, request_id: str | None = None) -> Event:
        """An event as the journal has it.

        Raises:
            ProblemError: it has no rating where the log has ratings, or it is in the future, or the like.
        """
        ingestion, now = self.service.champion.ingestion, time()
        columns = ingestion.interactions
        rating: float | None = 1.0
        if columns.rating:
            low, high = ingestion.rating_min, ingestion.rating_max
            if event.rating is None or event.clicked is not None or not low <= event.rating <= high:
                raise _wrong(f"{where}.rating", event.rating, f"a rating from {low:g} to {high:g}, and not clicked")
            rating = event.rating
        elif event.rating is not None or (event.clicked is None) == columns.has_impressions:
            expected = (
                "clicked, true or false, and no rating" if columns.has_impressions else "neither rating nor clicked"
            )
            raise _wrong(where, event.model_dump(exclude_none=True, mode="json"), expected)
        elif event.clicked is False:
            rating = None
        when = event.time
        second = int(now if when is None else when if isinstance(when, int) else when.timestamp())
        first, last = believed_seconds(ingestion.plausible_times)
        last = min(last, int(now + self._config.clock_skew_seconds))
        if not first <= second <= last:
            raise _wrong(f"{where}.time", str(when), f"a time from {_rfc3339(first)} to {_rfc3339(last)}")
        return Event(event_id, user, event.item, rating, second, request_id)


def _ok(model: type) -> dict[int | str, Json]:
    return {200: {"model": model}}


def _wrong(where: str, found: Any, expected: str) -> ProblemError:
    detail = f"{where} is {found}: expected is {expected}. Nothing of the request was stored."
    title = "The request is not of the right shape"
    return ProblemError(422, "invalid-request", title, detail, where=where, found=found, expected=expected)


def _require_most(member: str, count: int, most: int, parameter: str) -> None:
    if count > most:
        detail = f"{member} asks for {count:,}, but at most {most:,} are allowed (service.{parameter})."
        raise ProblemError(422, "too-many", "More than the service allows", detail, found=count, expected=most)


def _item(live: LiveLog, index: int) -> Json:
    return {"item": live.item_ids[index], "title": live.titles[index]}


def _rfc3339(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")
