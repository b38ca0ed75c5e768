"""The service's FastAPI app and its server."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import wraps
from importlib.metadata import version
from importlib.util import find_spec
from math import inf
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from reclora_kedro.serving.batches import QueueClosedError, QueueFullError
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.connections import connections_of
from reclora_kedro.serving.guard import OPEN_PATHS, Guard, Tokens, too_many
from reclora_kedro.serving.page import Page
from reclora_kedro.serving.problems import ProblemError, faults_of, invalid_request, unknown
from reclora_kedro.serving.routes import Json, Routes
from reclora_kedro.serving.service import CLOSING_SHARE, ReloadRefusedError, RequestExpiredError, Service
from reclora_kedro.serving.shapes import Events, Recommend, Score, SentItems

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 600  # seconds between two tries to load a model, of which each failure doubles the number
INSTRUCTIONS = "Recommendations of a trained recommender. Events that are added count in the next answer."


def create_app(
    service: Service,
    tokens: Tokens | None = None,
    newest: Callable[[], Hashable] = lambda: None,
    roll_back: Callable[[], Hashable] = lambda: None,
) -> FastAPI:
    """Create the app of a service, whose requests need tokens, if any.

    `newest` returns what chooses the current model now, such as versions of its alias; a change triggers a reload.
    `roll_back` names the previous model and returns what `newest` does then.
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
        summary="Recommendations of the current model, which know every event at once",
        version=version("reclora-kedro"),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts of another host: `Page` has one of its own
        redoc_url=None,
    )
    app.add_middleware(Guard, config=service.config, tokens=tokens, metrics=service.metrics)
    if service.config.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=service.config.allowed_origins, allow_methods=["*"], allow_headers=["*"]
        )
    _add_problems(app, service)
    routes = Routes(service, roll_back)
    routes.add_to(app)
    Page(routes).add_to(app)
    tools = _add_tools(app, routes)
    if tokens is not None:
        _describe_token(app)
    return app


def create_server(app: FastAPI, config: ServiceConfig) -> uvicorn.Server:
    settings: dict[str, Any] = {
        "http": connections_of(config.max_connections, config.max_connections_per_client, config.receive_seconds),
        "ws": "none",  # no route is one, and nothing would limit them
        "timeout_graceful_shutdown": (1 - CLOSING_SHARE) * config.shutdown_seconds,
    }
    return uvicorn.Server(uvicorn.Config(app, config.host, config.port, log_level="warning", **settings))


def _describe_token(app: FastAPI) -> None:
    """Declare the token in the OpenAPI description, so that its page can send it."""
    schema = app.openapi()  # which the app keeps
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in OPEN_PATHS else [{"token": []}]


async def _reload_when_told(service: Service, newest: Callable[[], Hashable]) -> None:
    """Reload the current model on SIGHUP, which Windows lacks, or when another one is chosen.

    One that cannot be loaded, as memory or a storage may be short for a while, is tried again after growing pauses.
    """
    signalled, loop, seconds = asyncio.Event(), asyncio.get_running_loop(), service.config.reload_seconds
    tried: Hashable = None
    pause, next_try = 0.0, inf
    # On Windows, or outside of the main thread: POST /model/reload is left there.
    with suppress(AttributeError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, signalled.set)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(signalled.wait(), seconds)
        is_signalled = signalled.is_set()
        signalled.clear()
        try:
            chosen_by = await asyncio.to_thread(newest)
            is_due = chosen_by != tried or loop.time() >= next_try
            if is_signalled or (chosen_by != service.current_model.chosen_by and is_due):
                pause = min(2 * pause, LONGEST_PAUSE) if chosen_by == tried else seconds or 0
                tried, next_try = chosen_by, inf
                await asyncio.to_thread(service.reload, None if is_signalled else chosen_by)
        except Exception as error:  # whatever is wrong with the new model, the old one goes on
            logger.warning("%s", error)
            next_try = loop.time() + pause


def _add_problems(app: FastAPI, service: Service) -> None:
    """Have errors answered by problems."""
    config, again = service.config, {"retry-after": "1"}

    def refused_by_framework(request: Request, error: HTTPException) -> ProblemError:
        if error.status_code == 404:
            return unknown("route", request.url.path, [getattr(route, "path", "") for route in app.routes])
        return ProblemError(error.status_code, "refused", "The request is refused", f"{error.detail}.")

    failed = "The service failed; its log says where. Nothing else is known of the request."
    ending = "The service ends, and did not compute the request. Send it to another one, or again later."
    expired = f"It was not answered in {config.timeout_seconds:g} s (service.timeout_seconds). Try again later."
    full = f"{config.max_waiting} requests are already waiting (service.max_waiting)."
    problems: dict[type[Exception], Callable[[Request, Any], ProblemError]] = {
        ProblemError: lambda _, error: error,
        RequestValidationError: lambda _, error: invalid_request(*faults_of(error)),
        HTTPException: refused_by_framework,
        Exception: lambda *_: ProblemError(500, "failed", "The service failed", failed),
        QueueFullError: lambda *_: too_many(full, 1),
        QueueClosedError: lambda *_: ProblemError(503, "ending", "The service ends", ending, again),
        RequestExpiredError: lambda *_: ProblemError(503, "timed-out", "The request timed out", expired, again),
        ReloadRefusedError: lambda _, error: ProblemError(
            503, "not-reloaded", "The current model was not reloaded", str(error)
        ),
    }
    for kind, problem_of in problems.items():

        async def answer(request: Request, error: Exception, problem_of: Any = problem_of) -> Response:
            return problem_of(request, error).response()

        app.add_exception_handler(kind, answer)


def _add_tools(app: FastAPI, routes: Routes) -> AbstractAsyncContextManager[Any]:
    """Add routes as tools of the Model Context Protocol, at /mcp, if its SDK, the extra `mcp`, is installed.

    Enter the returned context while the app answers.
    """
    if find_spec("mcp") is None:
        return nullcontext()
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.transport_security import TransportSecuritySettings

    server: Any = MCPServer("reclora", instructions=INSTRUCTIONS)

    def tool(verb: Callable[..., Awaitable[Json]]) -> None:
        """Add a tool whose problems reach the caller; the SDK hides the texts of other errors."""

        @wraps(verb)
        async def answer(*arguments: Any, **named: Any) -> Json:
            try:
                return await verb(*arguments, **named)
            except (ProblemError, ValidationError) as error:
                raise ToolError(str(error)) from error

        server.tool()(answer)

    @tool
    async def recommend(
        user: str | int | None = None,
        n: int = 10,
        history: list[dict[str, Any]] | None = None,
        candidates: list[str | int] | None = None,
        exclude: list[str | int] | None = None,
        filter: dict[str, Any] | None = None,
        rules: list[dict[str, Any]] | None = None,
        include_seen: bool = False,
        model: str | None = None,
    ) -> Json:
        """Recommend items to a user, or to a visitor with a `history` such as [{"item": "50"}], with reasons.

        Lists have only `candidates`, and nothing of `exclude`, both ids of items. `filter` has allowed values by field
        of items, such as {"genres": ["War"]}, and `rules` order and fill the list, such as [{"boost": {"genres":
        ["War"]}, "places": 5}].
        """
        given = {"user": user, "n": n, "history": history, "candidates": candidates, "rules": rules, "model": model}
        own = {"exclude": exclude or [], "filter": filter or {}, "include_seen": include_seen, "explain": True}
        return await routes.recommend(Recommend.model_validate(given | own))

    @tool
    async def score(user: str | int, items: list[str | int], model: str | None = None) -> Json:
        """Estimate how likely a user is to like each of the items, by id."""
        return await routes.score(Score.model_validate({"user": user, "items": items, "model": model}))

    @tool
    async def add_event(
        user: str | int,
        item: str | int,
        rating: float | None = None,
        clicked: bool | None = None,
        columns: dict[str, Any] | None = None,
    ) -> Json:
        """Store that a user took an item; it counts in the next answer. `columns` are those that the log declares."""
        event = (columns or {}) | {"user": user, "item": item, "rating": rating, "clicked": clicked}
        return await routes.add_events(Events.model_validate({"events": [event]}))

    @tool
    async def put_item(item: str | int, title: str | None = None, columns: dict[str, Any] | None = None) -> Json:
        """Add an item, which the next answer finds by its texts, or change one, such as its price in `columns`.

        With `withdrawn` true in `columns`, nobody gets it.
        """
        sent = (columns or {}) | {"item": item, "title": title}
        return await routes.change_items(SentItems.model_validate({"items": [sent]}))

    @tool
    async def user(user: str | int) -> Json:
        """Return a user's profile and latest events."""
        return await routes.user(str(user))

    tool(routes.items)
    tool(routes.similar_items)
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the app's own guard sees to hosts
    tools = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unguarded)
    app.router.routes.extend(tools.routes)
    return server.session_manager.run()
