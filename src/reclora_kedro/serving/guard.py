"""Checks of every request before routing: host, origin, token, rate, size, time, encoding."""

import asyncio
import hmac
import logging
import re
from collections import OrderedDict
from contextlib import suppress
from time import monotonic, perf_counter
from typing import NamedTuple
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.problems import ProblemError

access = logging.getLogger("reclora_kedro.serving.access")
REQUEST_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)  # which a client may give in X-Request-Id

STATIC_PATHS = ("/page/page.css", "/page/page.js", "/page/htmx.min.js", "/page/icon.svg")
OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health/live", "/health/ready", *STATIC_PATHS)
"""Paths without a token, as their answers contain no data."""
READING = ("GET", "HEAD", "OPTIONS")
READING_PATHS = ("/recommend", "/score")  # whose requests have a body
ADMINISTRATION_PATHS = ("/model/reload", "/model/rollback", "/page/rollback")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
INSUFFICIENT = 'Bearer error="insufficient_scope"'
GONE = 499  # the status under which requests are counted whose client has gone; nobody reads it
MOST_CLIENTS = 10_000  # whose rate is remembered
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Tokens(NamedTuple):
    """Bearer tokens: the first one is for everything, and there may be others for less."""

    administration: str
    writing: str | None = None  # for events, and all that reading is
    reading: str | None = None

    def allow(self, token: bytes, needed: str) -> bool | None:
        """Return whether a token is enough for a kind of request, a name of these fields; None if it is no token.

        Its time does not depend on how much of a token is right.
        """
        kinds = [
            kind for kind, own in self._asdict().items() if own is not None and hmac.compare_digest(token, own.encode())
        ]
        return self._fields.index(kinds[0]) <= self._fields.index(needed) if kinds else None


def needed_token(method: str, path: str) -> str:
    """Return the kind of token, a field of `Tokens`, that a request needs."""
    if path in ADMINISTRATION_PATHS:
        return "administration"
    return "reading" if method in READING or path in READING_PATHS else "writing"


class Guard:
    """ASGI middleware that refuses requests, counts answers, and cancels work for disconnected clients."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, tokens: Tokens | None, metrics: Metrics) -> None:
        self._app, self._config, self._metrics, self._tokens = app, config, metrics, tokens
        self._allowances: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, request_id = perf_counter(), 500, Headers(scope=scope).get("x-request-id", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in (*SAFE_HEADERS.items(), ("x-request-id", request_id)):
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._require_allowed(scope)
            body = await self._read(scope, receive)
            if body is None or not await _answer_while_connected(self._app, scope, body, receive, send_safely):
                status = GONE
        except ProblemError as problem:
            await problem.response()(scope, receive, send_safely)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds, client = perf_counter() - began, (scope.get("client") or ("unknown",))[0]
            self._metrics.request(route, method, status, seconds)
            # Of the path, the route alone: it may hold the id of a user.
            access.info("%s %s %s %d %.1f ms %s", client, method, route, status, 1000 * seconds, request_id)

    def _require_allowed(self, scope: Scope) -> None:
        headers, config = Headers(scope=scope), self._config
        host = headers.get("host", "")
        name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
        if {"*", name}.isdisjoint(map(str.lower, config.allowed_hosts)):
            detail = f"The request is for {name[:100]!r}: add it to service.allowed_hosts if it is yours."
            raise ProblemError(421, "unknown-host", "The service does not answer for this host", detail)
        origin = headers.get("origin")
        allowed = {origin, "*"} & {*config.allowed_origins}
        if scope["method"] not in READING and not allowed and not _is_own(headers, origin):
            page = (origin or "another origin")[:100]
            detail = f"A browser sent this for a page of {page}: add it to service.allowed_origins if it is yours."
            raise ProblemError(403, "other-origin", "Pages of other origins are refused", detail)
        if self._tokens is not None and scope["path"] not in OPEN_PATHS and scope["method"] != "OPTIONS":
            self._require_token(headers, needed_token(scope["method"], scope["path"]), self._tokens)
        if config.requests_per_second is not None:
            self._require_rate((scope.get("client") or ("unknown",))[0], config.requests_per_second)

    def _require_token(self, headers: Headers, needed: str, tokens: Tokens) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_allowed = tokens.allow(token.encode("latin-1"), needed)  # the header's bytes, which starlette decodes so
        if is_allowed is None or scheme.lower() != "bearer":
            detail, needs = "Send the header `Authorization: Bearer TOKEN` with the service's token.", "Bearer"
            raise ProblemError(401, "token-needed", "A token is needed", detail, {"www-authenticate": needs})
        if not is_allowed:
            detail, needs = f"This request needs the token for {needed}: send that one.", INSUFFICIENT
            raise ProblemError(403, "other-token-needed", "This token allows less", detail, {"www-authenticate": needs})

    def _require_rate(self, client: str, rate: float) -> None:
        """Take one request from a client's allowance, which refills with time up to a second's worth."""
        now, most = monotonic(), max(rate, 1)
        allowance, since = self._allowances.pop(client, (most, now))
        allowance = min(most, allowance + (now - since) * rate)
        self._allowances[client] = (max(allowance - 1, 0) if allowance >= 1 else allowance), now
        if len(self._allowances) > MOST_CLIENTS:
            self._allowances.popitem(last=False)
        if allowance < 1:
            raise too_many(f"{rate:g} requests per second are allowed.", (1 - allowance) / rate)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Read the whole body within the limits of size and time; return None if the client disconnects."""
        config, body, more, close = self._config, bytearray(), True, {"connection": "close"}
        most, length = config.max_body_bytes, Headers(scope=scope).get("content-length", "0")
        try:
            async with asyncio.timeout(config.receive_seconds):
                while more and len(body) <= most and (not length.isdigit() or int(length) <= most):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            came = f"{len(body):,} bytes came in {config.receive_seconds:g} s (service.receive_seconds)"
            detail = f"{came}. Nothing was stored."
            raise ProblemError(408, "too-slow", "The body arrived too slowly", detail, close) from None
        if more or len(body) > most:
            detail = f"A body may have at most {most:,} bytes: send it in parts. Nothing was stored."
            raise ProblemError(413, "too-large", "The body is too large", detail, close)
        try:
            body.decode()
        except UnicodeDecodeError as error:
            detail = f"Byte {error.start} of the body, {body[error.start]:#04x}, is not UTF-8: send JSON in UTF-8."
            raise ProblemError(400, "not-utf-8", "The body is not UTF-8", detail) from None
        return bytes(body)


async def _answer_while_connected(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> bool:
    """Answer a request whose body has been read until the client disconnects; return whether it stayed."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    disconnected, is_answered = asyncio.ensure_future(_disconnected(receive)), False

    async def read() -> Message:
        return unread.pop() if unread else await asyncio.shield(disconnected)

    async def watch(message: Message) -> None:
        nonlocal is_answered
        is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    answering = asyncio.ensure_future(app(scope, read, watch))
    try:
        await asyncio.wait({answering, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done() or is_answered:
            await answering
            return True
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering
        return False
    finally:
        disconnected.cancel()
        answering.cancel()


async def _disconnected(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message


def _is_own(headers: Headers, origin: str | None) -> bool:
    """Whether a request comes from no page or from one of the service's own, by two headers of browsers.

    Over plain HTTP, except from loopback, browsers send only Origin, which must name the requested host.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("none", "same-origin")
    return origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()


def too_many(detail: str, seconds: float) -> ProblemError:
    wait = max(1, round(seconds + 0.5))
    title, headers = "Too many requests", {"retry-after": str(wait)}
    return ProblemError(429, "too-many-requests", title, f"{detail} Try again in {wait} s.", headers=headers)
