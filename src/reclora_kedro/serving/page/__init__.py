"""The web page: choose a user, see recommendations with reasons, add an event and watch the list change.

Its parts are HTML that htmx inserts. Templates escape all data.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError

from reclora_kedro.ingestion.ids import is_id
from reclora_kedro.recommendation.chosen import labels
from reclora_kedro.serving.guard import STATIC_PATHS
from reclora_kedro.serving.problems import ProblemError
from reclora_kedro.serving.routes import Json, Routes
from reclora_kedro.serving.service import ReloadRefusedError
from reclora_kedro.serving.shapes import Events, Recommend

MEDIA = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
MOST_ITEMS = 12  # that are offered for a text
EXAMPLES = 12  # users that the page offers at first


class Page:
    """The page, its parts and its static files."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        loader = PackageLoader("reclora_kedro.serving.page", ".")
        self._templates = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)

    def add_to(self, app: FastAPI) -> None:
        parts: dict[str, Callable[..., Any]] = {
            "/": self.whole,
            "/docs": self.docs,
            "/page/start": self.start,
            "/page/user": self.user,
            "/page/items": self.items,
            "/page/champion": self.current_model,
            "/page/{name}": self.file,
        }
        self._schema = app.openapi
        for path, route in parts.items():
            app.get(path, response_model=None, include_in_schema=False)(route)
        app.post("/page/events", response_model=None, include_in_schema=False)(self.add_event)
        app.post("/page/rollback", response_model=None, include_in_schema=False)(self.roll_back)

    async def whole(self) -> Response:
        """Return the page without any data."""
        return self._html("page.html.jinja", llm=self._routes.service.current_model.llm is not None)

    async def docs(self) -> Response:
        """Return all routes, without scripts of other hosts."""
        return self._html("docs.html.jinja", schema=self._schema())

    async def file(self, name: str) -> Response:
        if f"/page/{name}" not in STATIC_PATHS:
            raise ProblemError(404, "unknown-route", "Unknown route", "There is no such file.")
        content = files("reclora_kedro.serving.page").joinpath(name).read_bytes()
        return Response(content, media_type=MEDIA[name.rpartition(".")[2]])

    async def start(self) -> Response:
        """Return some users to choose from, and the first of them as an example."""
        users = self._routes.service.live.some_users(EXAMPLES)
        return await self._user(users[0] if users else "1", "lens", None, users)

    async def user(self, user: str, model: str = "lens") -> Response:
        return await self._user(user, model, None)

    async def items(self, q: str = "") -> Response:
        """Return items whose title contains a text."""
        return self._html("items.html.jinja", **await self._routes.items(q, MOST_ITEMS))

    async def current_model(self) -> Response:
        return self._html("current_model.html.jinja", model=await self._routes.model(), note=None)

    async def roll_back(self) -> Response:
        try:
            note = f"Rolled back: {(await self._routes.rollback())['version']} answers from now on."
        except (ProblemError, ReloadRefusedError) as error:
            note = str(error)
        return self._html("current_model.html.jinja", model=await self._routes.model(), note=note)

    async def add_event(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        user, model = form.pop("user", ""), form.pop("model", "lens")
        try:
            value: Json = {"user": user, "item": await self._item(form.get("item", ""))}
            value |= {"rating": float(form["rating"])} if form.get("rating") else {}
            value |= {"clicked": form["clicked"] == "true"} if form.get("clicked") else {}
            await self._routes.add_events(Events.model_validate({"events": [value]}))
            note = f"The event of item {value['item']} counts from now on."
        except (ProblemError, ValidationError, ValueError) as error:
            note = str(error)
        return await self._user(user, model, note)

    async def _item(self, text: str) -> str:
        """Return the id of the item with this id or title; raise ValueError, with similar titles, if there is none."""
        if text in self._routes.service.live.items:
            return text
        items = (await self._routes.items(text, MOST_ITEMS))["items"]
        titled = [item["item"] for item in items if item["title"].casefold() == text.casefold()]
        if len(titled) == 1:
            return titled[0]
        similar = "; ".join(f"{item['title']} is {item['item']}" for item in items) or "no title contains it"
        raise ValueError(f"{text!r} is not the id or title of exactly one item. Nothing was stored: {similar}.")

    async def _user(self, user: str, model: str, note: str | None, users: Sequence[str] = ()) -> Response:
        try:
            request = Recommend.model_validate({"user": user, "n": 10, "explain": True, "model": model})
            recommended = await self._routes.recommend(request)
            is_known = recommended["fallback"] != "unknown_user"
            described = await self._routes.user(user) if is_known else None
        except (ProblemError, ValidationError) as error:
            return self._html("problem.html.jinja", problem=str(error))
        service, choice = self._routes.service, self._routes.service.current_model.choice
        shown: Json = {"user": user, "note": note, "users": users, "described": described, "recommended": recommended}
        shown |= {"asked": model, "takes": is_id(recommended["user"], service.live.user_type)}
        shown |= {"choice": choice, "labels": labels(choice.sources), "ingestion": service.current_model.ingestion}
        return self._html("user.html.jinja", **shown)

    def _html(self, template: str, **content: Any) -> Response:
        text = self._templates.get_template(template).render(**content)
        return HTMLResponse(text, headers={"content-security-policy": POLICY})
