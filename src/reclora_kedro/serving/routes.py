"""The routes of the service, and what each of them answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from time import time
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
import polars as pl
from fastapi import FastAPI, Query, Response
from fastapi.responses import JSONResponse

from kedro_provenance.parameters import shown
from reclora_kedro.interactions.plausible_times import believed_seconds
from reclora_kedro.interactions.schema import field_names
from reclora_kedro.serving.batches import QueueFullError
from reclora_kedro.serving.journal import Event
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.models import Answer, Request, Snapshot
from reclora_kedro.serving.problems import ProblemError, unknown
from reclora_kedro.serving.service import Service
from reclora_kedro.serving.shapes import (
    Accepted,
    Events,
    NewEvent,
    OfOneUser,
    PastEvent,
    Recommendations,
    RecommendBody,
    RecommendMany,
    Score,
    Scores,
)

logger = logging.getLogger(__name__)

EVENTS_SHOWN = 20  # of a user

Json = dict[str, Any]


class Routes:
    """What each route answers, as plain data: over HTTP, on the page and by the tools.

    Whatever names items or users by index is made beside the snapshot that answers it: another champion, whose indices
    are others, may take over while a request waits.
    """

    def __init__(self, service: Service, roll_back: Callable[[], str | None] | None) -> None:
        self.service, self._config, self._roll_back = service, service.config, roll_back

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        routes: list[tuple[str, str, Callable[..., Awaitable[Json]], type | None]] = [
            ("POST", "/recommend", self.recommend, Recommendations),
            ("POST", "/score", self.score, Scores),
            ("POST", "/events", self.add_events, Accepted),
            ("PUT", "/events", self.replace_events, Accepted),
            ("GET", "/users/{user_id:path}", self.user, None),
            ("DELETE", "/users/{user_id:path}/events", self.drop_events, None),
            ("GET", "/items", self.items, None),
            ("GET", "/items/{item_id:path}/neighbours", self.item_neighbours, None),
            ("GET", "/model", self.model, None),
            ("POST", "/model/reload", self.reload, None),
            ("POST", "/model/rollback", self.rollback, None),
            ("GET", "/health/live", self.live, None),
            ("GET", "/health/ready", self.ready, None),
        ]
        for method, path, route, model in routes:
            said: dict[int | str, Json] = {200: {"model": model}} if model else {}
            app.add_api_route(path, _as_json(route), methods=[method], response_model=None, responses=said)
        app.get("/metrics", response_model=None)(self.metrics)

    async def recommend(self, body: RecommendBody) -> Json:
        """The best items of a user, or of many."""
        if isinstance(body, RecommendMany):
            _require_most("requests", len(body.requests), self._config.max_requests, "max_requests")
            return {"answers": await asyncio.gather(*map(self.recommend, body.requests))}
        for member, count in (("n", body.n), ("candidates", len(body.candidates or ()))):
            _require_most(member, count, self._config.max_items, "max_items")

        def ask(now: Snapshot) -> Request:
            indices = now.live.items
            request = self._ask(body, now, body.candidates)
            request.rank, request.n, request.include_seen = True, body.n, body.include_seen
            request.excluded = np.array([indices[item] for item in body.exclude if item in indices], dtype=np.int64)
            request.allowed = _allowed(now.log.items, body.filter)
            return request

        rows = len(body.candidates or ()) or self.service.champion.recommendation.retrieved
        return _said(body, await self.service.answer(ask, rows))

    async def score(self, body: Score) -> Json:
        """How likely the user is to like each of the items."""
        _require_most("items", len(body.items), self._config.max_items, "max_items")
        answer = await self.service.answer(lambda now: self._ask(body, now, body.items), len(body.items))
        if answer.user is None:
            raise unknown("user", str(body.user), answer.now.current.users)
        said = _said(body, answer)
        said["scores"] = [{name: value for name, value in item.items() if name != "rank"} for item in said.pop("items")]
        del said["fallback"]
        return said

    async def add_events(self, body: Events) -> Json:
        """Add events, all or none; the answer means that they are durable and that the next answer knows them."""
        return await self._added(body.events, replace=False)

    async def replace_events(self, body: Events) -> Json:
        """The same; an event whose event_id is known replaces the earlier one."""
        return await self._added(body.events, replace=True)

    async def drop_events(self, user_id: str) -> Json:
        """Drop the user's events from the journal and from all answers; what was trained on them is another matter."""
        users = await self.service.look(lambda now: now.current.users)
        is_known = user_id in users
        deleted = await asyncio.wrap_future(self.service.journal.drop_user(user_id, int(time()), is_known))
        if not (deleted or is_known):
            raise unknown("user", user_id, users)
        note = "Tables and trained weights still hold them until `kedro run --pipelines forget` has made new versions."
        return {"user": user_id, "deleted_from_journal": deleted, "note": note}

    async def user(self, user_id: str) -> Json:
        """A user's profile, latest events, and what the lens and the gates make of them."""

        def look(now: Snapshot) -> Json:
            if (user := now.current.users.get(user_id)) is None:
                raise unknown("user", user_id, now.current.users)
            log, events = now.log, now.log.sequences
            first, end = int(events.starts[user]), int(events.ends[user])
            shown = range(end - 1, max(first, end - EVENTS_SHOWN) - 1, -1)
            latest = [
                _item(now.live, int(events.item_index[event]))
                | {"rating": round(float(events.rating[event]), 6), "liked": bool(events.label[event])}
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
    ) -> Json:
        """Items whose title has the text, or whose id it is."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            items, live = now.log.items, now.live
            title = pl.col("title").str.to_lowercase().str.contains(q.lower(), literal=True)
            matches = items.with_row_index("place").filter(title | (pl.col("item_id").cast(pl.String) == q))
            return {"items": [_item(live, place) for place in matches["place"].head(limit)], "found": matches.height}

        return await self.service.look(look)

    async def item_neighbours(self, item_id: str, limit: Annotated[int, Query(ge=1)] = 10) -> Json:
        """Items that the same users took, and items whose texts are near, each with its weight."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            live, [item] = now.live, _item_indices(now.live.items, [item_id]).tolist()
            [(near, weights)] = now.neighbours.nearest(np.array([item]))
            by_users = near[np.argsort(-weights, kind="stable")[:limit]]
            weight_of = dict(zip(near.tolist(), weights.tolist(), strict=True))
            said = _item(live, item)
            said["by_users"] = [_item(live, other) | {"weight": weight_of[other]} for other in by_users.tolist()]
            said["by_text"] = [_item(live, other) | {"cosine": near} for other, near in now.alike(item, limit)]
            return said

        return await self.service.look(look)

    async def model(self) -> Json:
        """The champion: its versions, how it did, what it reads."""
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

    async def reload(self) -> Json:
        """Read the champion's alias again."""
        changed = await asyncio.to_thread(self.service.reload)
        return {"version": self.service.champion.name, "changed": changed}

    async def rollback(self) -> Json:
        """Name the champion before this one, as `kedro run --pipelines rollback` does, and let it answer."""
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

    async def live(self) -> Json:
        """Whether the process answers."""
        return {"status": "live"}

    async def ready(self) -> Json:
        """Whether requests are answered in time."""
        try:
            await self.service.look(lambda now: None)
        except QueueFullError as error:
            detail = f"{self._config.max_waiting} requests wait already (service.max_waiting)."
            raise ProblemError(503, "not-ready", "Requests are not answered in time", detail) from error
        return {"status": "ready", "version": self.service.champion.name}

    async def metrics(self) -> Response:
        """Counts for Prometheus."""
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _added(self, events: Sequence[NewEvent], replace: bool) -> Json:
        _require_most("events", len(events), self._config.max_events, "max_events")
        rows = []
        for place, event in enumerate(events):
            where = f"events.{place}"
            if not self.service.live.takes(event.user):
                raise _wrong(f"{where}.user", shown(event.user), "a whole number, as all users of the log are")
            rows.append(self._event(where, event, event.user, event.event_id or uuid4().hex, event.request_id))
        added = await asyncio.wrap_future(self.service.journal.add(rows, replace))
        self.service.metrics.events(added, len(rows) - added)
        items = self.service.live.items
        waiting = [row.item_id for row in rows if row.item_id not in items]
        return {"accepted": added, "duplicates": len(rows) - added, "unknown_items": list(dict.fromkeys(waiting))}

    def _ask(self, body: OfOneUser, now: Snapshot, items: list[str] | None) -> Request:
        """What both kinds of requests ask for."""
        model = body.model or self._config.model
        if model == "llm" and now.champion.llm is None:
            detail = "The service has no LLM, as service.variant is null: ask the lens, or name a variant there."
            raise ProblemError(422, "no-llm", "The LLM is not served", detail)
        given = body.history or []
        _require_most("history", len(given), self._config.max_events, "max_events")
        events = (self._event(f"history.{place}", event, "", "") for place, event in enumerate(given))
        history = tuple(event for event in events if event.item_id in now.live.items)
        indices = None if items is None else _item_indices(now.live.items, items)
        return Request(False, body.user, history, items=indices, explain=body.explain, model=model)

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


def _as_json(route: Callable[..., Awaitable[Json]]) -> Callable[..., Awaitable[Response]]:
    """A route that answers as it is, without the encoder that looks at every value."""

    @wraps(route)
    async def answered(*arguments: Any, **named: Any) -> Response:
        return JSONResponse(await route(*arguments, **named))

    return answered


def _said(body: OfOneUser, answer: Answer) -> Json:
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


def _item_indices(indices: Mapping[str, int], ids: Sequence[str]) -> np.ndarray:
    for item in ids:
        if item not in indices:
            raise unknown("item", item, indices)
    return np.array([indices[item] for item in dict.fromkeys(ids)], dtype=np.int32)


def _allowed(items: pl.DataFrame, values: Mapping[str, list[str]]) -> np.ndarray | None:
    if not values:
        return None
    fields = field_names(items)
    conditions = []
    for field, wanted in values.items():
        if field not in fields:
            raise unknown("field", field, fields, 422)
        conditions.append(
            pl.col(field).str.split(",").list.eval(pl.element().str.strip_chars().is_in(wanted)).list.any()
        )
    return items.select(pl.all_horizontal(conditions).fill_null(False)).to_series().to_numpy()


def _wrong(where: str, value: Any, expected: str) -> ProblemError:
    detail = f"{where} is {value}: expected is {expected}. Nothing of the request was stored."
    title = "The request is not of the right shape"
    return ProblemError(422, "invalid-request", title, detail, where=where, found=value, expected=expected)


def _require_most(member: str, count: int, most: int, parameter: str) -> None:
    if count > most:
        detail = f"{member} asks for {count:,}, but at most {most:,} are allowed (service.{parameter})."
        raise ProblemError(422, "too-many", "More than the service allows", detail, found=count, expected=most)


def _item(live: LiveLog, index: int) -> Json:
    return {"item": live.item_ids[index], "title": live.titles[index]}


def _rfc3339(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")
