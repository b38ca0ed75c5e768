"""The routes of the service."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial, wraps
from itertools import compress
from math import isfinite, isnan
from time import time
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import numpy as np
import polars as pl
from fastapi import FastAPI, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.convertors import PathConvertor, register_url_convertor

from kedro_provenance.errors import Fault, Value, quoted_value
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.history.fields import Values, check_values, field_names, items_with, number_names
from reclora_kedro.history.sent_events import sent_rating, sent_second
from reclora_kedro.ingestion.config import WITHDRAWN
from reclora_kedro.ingestion.entities import with_sent_items
from reclora_kedro.ingestion.ids import BLANKS, IdError, canonical, is_id
from reclora_kedro.recommendation.rules import Rule, check_rules
from reclora_kedro.recommendation.visitors import lists_after_one
from reclora_kedro.serving import shapes
from reclora_kedro.serving.batches import QueueFullError
from reclora_kedro.serving.config import ModelName, ServiceConfig
from reclora_kedro.serving.journal import (
    EventConflictError,
    ItemExistsError,
    MaybeStoredError,
    NotAppliedError,
    NotStoredError,
)
from reclora_kedro.serving.journal_tables import Event, item_row, item_values
from reclora_kedro.serving.live_log import LiveLog
from reclora_kedro.serving.models import Answer, Request, Snapshot
from reclora_kedro.serving.problems import PROBLEM_JSON, Member, ProblemError, invalid_request, unknown
from reclora_kedro.serving.service import PAIRS_OF_REASONS, Service
from reclora_kedro.serving.shapes import (
    Events,
    NewEvent,
    OfOneUser,
    PastEvent,
    Recommend,
    RecommendBody,
    Score,
    SentItem,
    SentItems,
)

logger = logging.getLogger(__name__)

NOTHING_STORED = "Nothing of the request was stored"
EVENTS_SHOWN = 20  # of a user
NO_LENS = (
    "Scores of given items are a lens's probabilities of a like, and none was trained: train one with `kedro run "
    "--pipelines lens` (a log of likes alone needs history.negatives for it), then reload the model. Lists need none: "
    "POST /recommend orders given candidates."
)
PROBLEM = {
    "description": "A problem: what is wrong with the request, or why the service cannot answer it",
    "content": {PROBLEM_JSON: {"schema": shapes.Problem.model_json_schema()}},
}

Json = dict[str, Any]
T = TypeVar("T")


class IdConvertor(PathConvertor):
    """Any text of a path, also with slashes and breaks of lines."""

    regex = "(?s:.+)"


register_url_convertor("id", IdConvertor())


class Routes:
    """The answers of all routes as JSON values, for HTTP, the page and the tools.

    Requests refer to items and users by index only together with the snapshot that answers them: another model, with
    other indices, may take over while a request waits.
    """

    def __init__(self, service: Service, roll_back: Callable[[], Hashable]) -> None:
        self.service, self._config, self._roll_back = service, service.config, roll_back

    def add_to(self, app: FastAPI) -> None:
        routes: list[tuple[str, str, Callable[..., Awaitable[Json]], Any]] = [
            ("POST", "/recommend", self.recommend, shapes.Recommendations | shapes.ManyRecommendations),
            ("POST", "/score", self.score, shapes.Scores),
            ("POST", "/events", self.add_events, shapes.Accepted),
            ("PUT", "/events", self.replace_events, shapes.Accepted),
            ("GET", "/users/{user_id:id}", self.user, shapes.User),
            ("DELETE", "/users/{user_id:id}/events", self.drop_events, shapes.Dropped),
            ("GET", "/items", self.items, shapes.Items),
            ("POST", "/items", self.add_items, shapes.StoredItems),
            ("PUT", "/items", self.change_items, shapes.StoredItems),
            ("DELETE", "/items/{item_id:id}", self.withdraw_item, shapes.WithdrawnItem),
            ("GET", "/items/{item_id:id}/neighbours", self.item_neighbours, shapes.Neighbours),
            ("GET", "/items/{item_id:id}/similar", self.similar_items, shapes.SimilarItems),
            ("GET", "/model", self.model, shapes.Model),
            ("POST", "/model/reload", self.reload, shapes.Reloaded),
            ("POST", "/model/rollback", self.rollback, shapes.Reloaded),
            ("GET", "/health/live", self.live, shapes.Health),
            ("GET", "/health/ready", self.ready, shapes.Health),
        ]
        for method, path, route, model in routes:
            responses: dict[int | str, Json] = {200: {"model": model}, "default": PROBLEM}
            app.add_api_route(path, _as_json(route), methods=[method], response_model=None, responses=responses)
            if method == "GET":  # whose body the server leaves out
                app.add_api_route(path, _as_json(route), methods=["HEAD"], include_in_schema=False)
        responses = {"default": PROBLEM}
        app.add_api_route("/metrics", self.metrics, response_class=PlainTextResponse, responses=responses)

    async def recommend(self, body: RecommendBody) -> Json:
        """Recommend the best items to a user, or to many."""
        if isinstance(body, Recommend):
            [response] = await self._recommend([body])
            return response
        _require_most("requests", len(body.requests), self._config.max_requests, "max_requests")
        return {"answers": await self._recommend(body.requests, "/requests/{}")}

    async def _recommend(self, bodies: Sequence[Recommend], pointer: str = "") -> list[Json]:
        current_model, costs = self.service.current_model, []
        for body in bodies:
            candidates = len(body.candidates or ())
            _require_most("n", body.n, self._config.max_items, "max_items")
            _require_most("candidates", candidates, self._config.max_items, "max_items")
            pairs = candidates or max(current_model.listed_items, body.n)
            shortlist = min(pairs, max(current_model.recommendation.shortlist or pairs, body.n))
            costs.append(self._cost(body, pairs, shortlist if self._model(body) == "llm" else body.n))
        self._require_affordable(costs)

        parts = [
            (partial(self._request, body, pointer.format(place)), pairs)
            for place, (body, (pairs, _)) in enumerate(zip(bodies, costs, strict=True))
        ]
        answers = await self.service.answer(parts)
        return [_response(body, answer) for body, answer in zip(bodies, answers, strict=True)]

    async def score(self, body: Score) -> Json:
        """Estimate how likely the user is to like each of the items."""
        _require_most("items", len(body.items), self._config.max_items, "max_items")
        cost = self._cost(body, len(body.items), len(body.items))
        self._require_affordable([cost])
        [answer] = await self.service.answer([(partial(self._request, body, ""), cost[0])])
        if answer.user is None:
            raise unknown("user", str(body.user), answer.now.current.users)
        response = _response(body, answer)
        scores = [{name: value for name, value in item.items() if name != "rank"} for item in response["items"]]
        of_lists = ("items", "fallback", "method", "order")
        return {name: value for name, value in response.items() if name not in of_lists} | {"scores": scores}

    async def add_events(self, body: Events) -> Json:
        """Add events, all or none; they are durable and part of the next answer once this is answered."""
        return await self._added(body.events, replace=False)

    async def replace_events(self, body: Events) -> Json:
        """Add events as above; an event with a known event_id replaces the earlier one."""
        return await self._added(body.events, replace=True)

    async def drop_events(self, user_id: str) -> Json:
        """Drop the user's events from the journal and from all answers, but not from trained models."""
        user_id = user_id.strip(BLANKS)

        def look(now: Snapshot) -> tuple[Mapping[str, int], int]:
            users, events = now.current.users, now.log.sequences
            user = users.get(user_id)
            own = slice(0) if user is None else slice(int(events.starts[user]), int(events.ends[user]))
            return users, int(events.timestamp[own].max(initial=0))

        users, last = await self.service.look(look)
        try:
            shapes.sent_id(user_id)
        except ValueError as error:  # whose request would fail the whole commit, with the events of others
            raise unknown("user", user_id, users) from error
        is_known, until = user_id in users, max(int(time()), last)  # an event may be later than this machine's clock
        deleted = await _written(self.service.journal.drop_user(user_id, until, is_known))
        if not (deleted or is_known):
            raise unknown("user", user_id, users)
        note = "Tables and trained weights still hold them until `kedro forget` has made new versions."
        return {"user": user_id, "deleted_from_journal": deleted, "note": note}

    async def user(self, user_id: str) -> Json:
        """Return a user's profile, latest events, lens values and gate weights."""
        user_id = user_id.strip(BLANKS)

        def look(now: Snapshot) -> Json:
            if (user := now.current.users.get(user_id)) is None:
                raise unknown("user", user_id, now.current.users)
            log, events = now.log, now.log.sequences
            first, end = int(events.starts[user]), int(events.ends[user])
            newest_first = range(end - 1, max(first, end - EVENTS_SHOWN) - 1, -1)
            latest = [
                now.live.item(int(events.item_index[event]))
                | {"rating": round(float(events.rating[event]), 6), "liked": bool(events.label[event])}
                | {"time": _rfc3339(int(events.timestamp[event]))}
                | events.schema.values_of(events.declared, event)
                for event in newest_first
            ]
            profile = log.users.row(user, named=True)
            names = [*field_names(log.users), *number_names(log.users)]
            fields = {name: profile[name] for name in names if profile[name] is not None}
            response = {"user": user_id, "profile": fields, "events": end - first, "latest": latest}
            has_learned = None if now.lens is None else now.lens.user.knows(user)
            return response | {"lens_has_learned_from_user": has_learned, "gates": now.gates_of(user)}

        return await self.service.look(look)

    async def items(
        self, q: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1)] = 20
    ) -> Json:
        """Find items by a text in their title, or by id."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            items, live = now.log.items, now.live
            title = pl.col("title").str.to_lowercase().str.contains(q.lower(), literal=True)
            is_id_of = pl.col("item_id").cast(pl.String) == q.strip(BLANKS)
            matches = items.with_row_index("place").filter(title | is_id_of)
            return {"items": [live.item(place) for place in matches["place"].head(limit)], "found": matches.height}

        return await self.service.look(look)

    async def add_items(self, body: SentItems) -> Json:
        """Add items, all or none; they are durable, and lists find them by their texts, once this is answered."""
        return await self._stored(body.items, replace=False)

    async def change_items(self, body: SentItems) -> Json:
        """Add items as above, or change values of known ones, such as prices."""
        return await self._stored(body.items, replace=True)

    async def withdraw_item(self, item_id: str, forget: bool = False) -> Json:
        """Recommend an item to nobody; `forget` also erases its values from the journal."""
        item_id = item_id.strip(BLANKS)
        if item_id not in self.service.live.items:
            raise unknown("item", item_id, self.service.live.items)
        row = item_row(item_id, {WITHDRAWN: True}, int(time()))
        await _written(self.service.journal.put_items([row], (), replace=True, erase=forget))
        await asyncio.to_thread(self.service.reload if forget else self.service.take_items)
        kept = "Tables of the items still have its values, where an update or a run has read them."
        return {"item": item_id, "note": kept if forget else "PUT /items with withdrawn false offers it again."}

    async def item_neighbours(self, item_id: str, limit: Annotated[int, Query(ge=1)] = 10) -> Json:
        """Return items taken by the same users, and items with similar texts, each with its weight."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            live = now.live
            if (item := live.items.get(item_id.strip(BLANKS))) is None:
                raise unknown("item", item_id, live.items)
            near, weights = now.recommender.knn.nearest(item)
            near, weights = near[near != item], weights[near != item]  # where texts weigh, an item is near itself
            by_users = near[np.argsort(-weights, kind="stable")[:limit]]
            weight_of = dict(zip(near.tolist(), weights.tolist(), strict=True))
            response = live.item(item)
            response["by_users"] = [live.item(other) | {"weight": weight_of[other]} for other in by_users.tolist()]
            response["by_text"] = [live.item(other) | {"cosine": near} for other, near in now.alike(item, limit)]
            return response

        return await self.service.look(look)

    async def similar_items(self, item_id: str, limit: Annotated[int, Query(ge=1)] = 10) -> Json:
        """Return items for users who took an item: the list of a visitor who only took this item."""
        _require_most("limit", limit, self._config.max_items, "max_items")

        def look(now: Snapshot) -> Json:
            if (item := now.live.items.get(item_id.strip(BLANKS))) is None:
                raise unknown("item", item_id, now.live.items)
            best, last = float(now.log.sequences.rating.max()), now.log.last_second
            now, visitor = now.with_visitor([Event("", "", item_id.strip(BLANKS), best, last)])
            lists = lists_after_one(now.recommender, pl.Series([visitor], dtype=pl.Int32), limit)
            ranked = zip(lists.items[0].tolist(), lists.scores[0].tolist(), strict=True)
            similar = [
                now.live.item(other) | {"rank": rank, "score": None if isnan(score) else score}
                for rank, (other, score) in enumerate(ranked, start=1)
                if other != NO_ITEM
            ]
            return now.live.item(item) | {"similar": similar}

        return await self.service.look(look)

    async def model(self) -> Json:
        """Return the current model: its versions, its metrics, and its inputs."""
        current_model, columns = self.service.current_model, self.service.current_model.ingestion.interactions
        reads = "rating" if columns.rating else "clicked" if columns.has_impressions else "user and item alone"
        example = {"user": next(iter(self.service.live.some_users(1)), "1"), "n": 5, "explain": True}
        response = {
            "version": current_model.name,
            "versions": dict(current_model.versions),
            "since": _rfc3339(int(self.service.since)),
            "method": current_model.choice.kind,
            "order": current_model.choice.order,
            "reason": current_model.choice.reason,
            "model": self._config.model,
            "llm": None if current_model.llm is None else self._config.variant,
            "users": current_model.log.users.height,
            "items": current_model.log.items.height,
            "an_event_has": ", ".join([reads, *columns.columns]),
            "example": {"POST /recommend": example},
        }
        return response | dict(current_model.about)

    async def reload(self) -> Json:
        """Load the current model and the choice of the method again."""
        changed = await asyncio.to_thread(self.service.reload)
        return {"version": self.service.current_model.name, "changed": changed}

    async def rollback(self) -> Json:
        """Roll back to the previous model, as `kedro run --pipelines rollback` does, and answer with it."""
        before = self.service.current_model.versions
        try:
            chosen_by = await asyncio.to_thread(self._roll_back)
        except Exception as error:  # whatever is in the way, the current model stays
            logger.warning("The current model was not rolled back: %s", error)
            raise ProblemError(409, "not-rolled-back", "The current model stays", str(error)) from error
        await asyncio.to_thread(self.service.reload, chosen_by)  # unless it has been already, as the alias has moved
        return {"version": self.service.current_model.name, "changed": self.service.current_model.versions != before}

    async def live(self) -> Json:
        """Return whether the process answers."""
        return {"status": "live"}

    async def ready(self) -> Json:
        """Return whether requests are answered in time and events are stored."""
        try:
            await self.service.look(lambda now: None)
        except QueueFullError as error:
            detail = f"{self._config.max_waiting} requests are already waiting (service.max_waiting)."
            raise ProblemError(503, "not-ready", "Requests are not answered in time", detail) from error
        if self.service.journal.fault is not None:
            try:
                await asyncio.wrap_future(self.service.journal.try_out())
            except (NotStoredError, MaybeStoredError, NotAppliedError) as error:
                raise ProblemError(503, "not-ready", "Events cannot be stored and read", str(error)) from error
        current_model = self.service.current_model
        return {"status": "ready", "version": current_model.name, "lens": current_model.lens is not None}

    async def metrics(self) -> Response:
        """Return metrics in Prometheus's text format."""
        return PlainTextResponse(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _added(self, events: Sequence[NewEvent], replace: bool) -> Json:
        _require_most("events", len(events), self._config.max_events, "max_events")
        rows = []
        for place, event in enumerate(events):
            where = f"/events/{place}"
            if not is_id(event.user, self.service.live.user_type):
                raise _wrong(f"{where}/user", event.user, "it must be a whole number, as all users of the log are")
            rows.append(self._event(where, event, event.user, event.event_id or uuid4().hex, event.request_id))
        without_time = {row.event_id for row, event in zip(rows, events, strict=True) if event.time is None}
        written = await _written(self.service.journal.add(rows, replace, without_time))
        added, dropped = written.stored, written.of_forgotten
        duplicates = len(rows) - added - dropped
        self.service.metrics.events(added, duplicates, dropped)
        items = self.service.live.items
        waiting = [row.item_id for row in rows if row.item_id not in items]
        counts = {"accepted": added, "duplicates": duplicates, "of_forgotten_users": dropped}
        return counts | {"unknown_items": list(dict.fromkeys(waiting))}

    async def _stored(self, items: Sequence[SentItem], replace: bool) -> Json:
        _require_most("items", len(items), self._config.max_items, "max_items")
        rows = [self._item(f"/items/{place}", item) for place, item in enumerate(items)]
        try:  # as if all were new, since any item may be one to a later model
            with_sent_items(self.service.current_model.log.items.clear(), item_values(rows))
        except Fault as fault:
            raise invalid_request(fault) from fault
        changed = await _written(self.service.journal.put_items(rows, self.service.live.items, replace=replace))
        try:
            await asyncio.to_thread(self.service.take_items)
        except Exception as error:
            logger.exception("Answers do not read new items.")
            status, kind, title, detail = FAILURES[NotAppliedError]
            raise ProblemError(status, kind, title, detail.format(error)) from error
        return {"stored": changed, "unchanged": len(rows) - changed}

    def _item(self, where: str, item: SentItem) -> Event:
        """Convert a sent item to the journal's row; refuse values that the items of the log do not have."""
        live, columns = self.service.live, self.service.current_model.log.items
        _require_as_written(f"{where}/item", item.item, live.item_type)
        if not is_id(item.item, live.item_type):
            raise _wrong(f"{where}/item", item.item, "it must be a whole number, as all items of the log are")
        kinds = dict.fromkeys(field_names(columns), "a text") | dict.fromkeys(number_names(columns), "a number")
        for name, value in (item.model_extra or {}).items():
            expected = kinds.get(name, f"items have {', '.join(['title', *kinds])} and {WITHDRAWN}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            fits = value is None or (is_number if expected == "a number" else isinstance(value, str))
            if name not in kinds or not fits:
                raise _wrong(f"{where}/{name}", value, expected if name not in kinds else f"it must be {expected}")
        values = {name: value for name, value in item.model_dump(exclude={"item"}).items() if value is not None}
        if item.item not in live.items and not item.title:
            if self.service.current_model.ingestion.items.title is not None:
                raise _wrong(f"{where}/title", item.title, "a new item needs a title")
            values["title"] = item.item
        return item_row(item.item, values, int(time()))

    def _model(self, body: OfOneUser) -> ModelName:
        return body.model or self._config.model

    def _cost(self, body: OfOneUser, scored: int, last: int) -> tuple[int, int]:
        """Return the pairs for the lens and the prompts of a request that scores items, the last ones by the LLM.

        Each event of a given history costs as much as a pair, and so do the reasons of an item several times.
        """
        reasons = PAIRS_OF_REASONS * last if body.explain else 0
        return scored + len(body.history or ()) + reasons, last if self._model(body) == "llm" else 0

    def _require_affordable(self, costs: Sequence[tuple[int, int]]) -> None:
        """Refuse a request with too much work; one user's request is limited by the settings and always admitted."""
        pairs, prompts = (sum(part) for part in zip(*costs, strict=True))
        if len(costs) > 1:
            counted = f"pairs of user and item (with reasons, a pair counts {1 + PAIRS_OF_REASONS} times)"
            _require_most("The request", pairs, self._config.max_pairs, "max_pairs", counted)
        _require_most("The request", prompts, self._config.max_prompts, "max_prompts", "prompts of the LLM")

    def _request(self, body: Recommend | Score, within: str, now: Snapshot) -> Request:
        """Build a request from a body, whose pointer in that of many is `within`."""
        model = self._model(body)
        if model == "llm" and now.current_model.llm is None:
            detail = (
                "The service has no LLM, as service.variant is null, or its adapter or the lens was not trained when "
                "the service started: name the lens, or train them and start again."
            )
            raise ProblemError(422, "no-llm", "The LLM is not served", detail)
        if isinstance(body, Score) and now.lens is None:
            raise ProblemError(422, "no-lens", "There is no lens", NO_LENS)
        given = body.history or []
        _require_most("history", len(given), self._config.max_events, "max_events")
        events = [self._event(f"{within}/history/{place}", event, "", "") for place, event in enumerate(given)]
        is_read = (event.rating is not None and event.item_id in now.live.items for event in events)  # None: no click
        history = tuple(compress(events, is_read))
        if body.user is not None:
            _require_as_written(f"{within}/user", body.user, now.live.user_type)
        if isinstance(body, Score):
            items = _known_items(now.live, body.items, f"{within}/items")
            return Request(False, body.user, history, items, explain=body.explain, model=model)
        candidates = body.candidates
        return Request(
            rank=True,
            user=body.user,
            history=history,
            items=None if candidates is None else _known_items(now.live, candidates, f"{within}/candidates"),
            n=body.n,
            excluded=_known_items(now.live, body.exclude, f"{within}/exclude"),
            allowed=_allowed(now.log.items, body.filter, f"{within}/filter"),
            rules=self._rules(body, model, now, f"{within}/rules"),
            include_seen=body.include_seen,
            explain=body.explain,
            model=model,
        )

    def _rules(self, body: Recommend, model: ModelName, now: Snapshot, where: str) -> tuple[Rule, ...] | None:
        """Return the rules of a request, if any; refuse those that name what is not there, or that an LLM undoes."""
        rules = now.recommender.config.under(body.rules).rules
        if model == "llm" and any(rule.moves for rule in rules):
            raise _wrong(where, "llm", "an LLM reorders lists, so only exclude and allow rules hold")
        try:
            check_rules(body.rules or (), now.log.items, where)
        except Fault as fault:
            raise invalid_request(fault) from fault
        return None if body.rules is None else rules

    def _event(self, where: str, event: PastEvent, user: str, event_id: str, request_id: str | None = None) -> Event:
        """Convert a sent event to the journal's; refuse one without a rating in a log of ratings, and the like."""
        _require_as_written(f"{where}/item", event.item, self.service.live.item_type)
        ingestion, now = self.service.current_model.ingestion, time()
        latest, when = now + self._config.clock_skew_seconds, now if event.time is None else event.time
        try:
            rating = sent_rating(ingestion, event.rating, event.clicked, f"{where}/")
            second = sent_second(when, ingestion, f"{where}/time", latest)
            further = ingestion.interactions.events.text(event.model_extra or {}, f"{where}/")
        except Fault as fault:
            raise invalid_request(Fault(fault.subject, fault.found, fault.expected, NOTHING_STORED)) from fault
        return Event(event_id, user, event.item, rating, second, request_id, further)


FAILURES = {
    NotStoredError: (
        *(507, "not-stored", "The request is not stored"),
        "{} Nothing of the request was stored. Free disk space, or repair it.",
    ),
    MaybeStoredError: (
        *(503, "maybe-stored", "It is not known whether the request is stored"),
        "{} The request is stored or not. Send it again: what has an event_id counts once.",
    ),
    NotAppliedError: (
        *(500, "not-applied", "The request is stored, but answers do not show it"),
        "The request is stored, and need not be sent again. {}",
    ),
}


async def _written(write: "Future[T]") -> T:
    """Wait for a write of the journal; raise its errors as problems."""
    try:
        return await asyncio.wrap_future(write)
    except (NotStoredError, MaybeStoredError, NotAppliedError) as error:
        status, kind, title, detail = FAILURES[type(error)]
        raise ProblemError(status, kind, title, detail.format(error)) from error
    except ItemExistsError as error:
        detail = f"There is an item {quoted_value(str(error))}: change it by PUT /items. Nothing was stored."
        raise ProblemError(409, "item-exists", "There is such an item", detail, found=str(error)) from error
    except EventConflictError as error:
        event_id, title = error.sent.event_id, "Another event has the event_id"
        hint = "give this one another event_id, or replace that one by PUT /events"
        if error.stored.user_id != error.sent.user_id:
            hint = "it is one of another user; give this one an event_id of its own"
        known = f"The journal has another event with the event_id {quoted_value(event_id)}"
        detail = f"{known}: {hint}. Nothing was stored."
        raise ProblemError(409, "event-conflict", title, detail, found=event_id) from error


def _as_json(route: Callable[..., Awaitable[Json]]) -> Callable[..., Awaitable[Response]]:
    """Wrap a route to serialise its answer directly, without FastAPI's encoder."""

    @wraps(route)
    async def answered(*arguments: Any, **named: Any) -> Response:
        return JSONResponse(await route(*arguments, **named))

    return answered


def _response(body: OfOneUser, answer: Answer) -> Json:
    now, live = answer.now, answer.now.live
    items = []
    for place, item in enumerate(answer.items.tolist()):
        entry = live.item(item) | {"score": None, "rank": place + 1}
        if answer.scores is not None:
            score = float(answer.scores[place])
            entry["score"] = None if np.isnan(score) else score
        if answer.rules:
            entry["rule"] = answer.rules[place]
        if answer.because is not None:
            entry["because"] = answer.because[place]
        items.append(entry)
    return {
        "user": body.user,
        "model": answer.model,
        "method": now.current_model.choice.kind,
        "order": now.current_model.choice.order,
        "score_is": answer.score_is,
        "version": now.current_model.name,
        "as_of": _rfc3339(now.log.last_second),
        "request_id": body.request_id or uuid4().hex,
        "unknown_items": _unknown_items(body, live),
        "items": items,
        "fallback": answer.fallback,
    }


def _known_items(live: LiveLog, ids: Sequence[str], where: str) -> np.ndarray:
    """Return the indices of known items, each once."""
    for place, item in enumerate(ids):
        _require_as_written(f"{where}/{place}", item, live.item_type)
    return np.array([live.items[item] for item in dict.fromkeys(ids) if item in live.items], dtype=np.int64)


def _unknown_items(body: OfOneUser, live: LiveLog) -> list[str]:
    """Return the ids of unknown items in a request, each once."""
    named = [event.item for event in body.history or ()]
    for member in ("candidates", "exclude", "items"):
        named += getattr(body, member, None) or ()
    return [item for item in dict.fromkeys(named) if item not in live.items]


def _require_as_written(where: str, text: str, kind: pl.DataType) -> None:
    """Refuse a number that is written in another way than the log's ids."""
    try:
        if not is_id(text, kind):
            canonical(pl.Series([text]), kind)
    except IdError as error:
        raise _wrong(where, text, error.expected) from error


def _allowed(items: pl.DataFrame, values: Values, where: str) -> np.ndarray | None:
    fields = [*field_names(items), *number_names(items)]
    if unknown_fields := [name for name in values if name not in fields]:
        raise unknown("field", unknown_fields[0], fields, 422)
    try:
        check_values(values, items, where)
    except Fault as fault:
        raise invalid_request(fault) from fault
    return items_with(items, values) if values else None


def _wrong(where: str, value: Any, expected: str) -> ProblemError:
    return invalid_request(Fault(Member(where), ("is ", Value(value)), expected, NOTHING_STORED))


def _require_most(member: str, count: int, limit: int, parameter: str, counted: str = "") -> None:
    if count > limit:
        counted = counted and f" {counted}"
        setting = f" (service.{parameter})" if parameter in ServiceConfig.model_fields else ""
        detail = f"{member} takes {count:,}{counted}, but at most {limit:,} are allowed{setting}."
        raise ProblemError(422, "too-many", "More than the service allows", detail, found=count, expected=limit)


def _rfc3339(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")
