"""The routes as tools of the Model Context Protocol, at /mcp; its SDK comes with the extra `mcp`."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import wraps
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError

from reclora_kedro.serving.problems import ProblemError
from reclora_kedro.serving.routes import Json, Routes
from reclora_kedro.serving.shapes import Events, Recommend, Score

INSTRUCTIONS = "Recommendations of a trained recommender. Events that are added count in the next answer."


def add_tools(app: FastAPI, routes: Routes) -> AbstractAsyncContextManager[Any]:
    """Add the tools to an app, if the SDK is installed; enter the returned context while the app answers."""
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
        user: str | int, n: int = 10, model: str | None = None, filter: dict[str, list[str]] | None = None
    ) -> Json:
        """Recommend items to a user, with reasons; `filter` has allowed values by field of items, such as genres."""
        body = {"user": user, "n": n, "model": model, "filter": filter or {}, "explain": True}
        return await routes.recommend(Recommend.model_validate(body))

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
    async def user(user: str | int) -> Json:
        """Return a user's profile and latest events."""
        return await routes.user(str(user))

    @tool
    async def items(q: str, limit: int = 20) -> Json:
        """Find items by a text in their title; returns their ids."""
        return await routes.items(q, limit)

    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the app's own guard sees to hosts
    tools = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unguarded)
    app.router.routes.extend(tools.routes)
    return server.session_manager.run()
