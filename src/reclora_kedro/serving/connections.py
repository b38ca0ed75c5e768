"""Limits on connections and on what arrives over them before a request is checked."""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.guard import SAFE_HEADERS
from reclora_kedro.serving.problems import ProblemError

MAX_HEADER_BYTES = 2**15  # of a request, with its path
MAX_HEADERS = 100  # lines of a request
MAX_RECEIVED_BYTES = 8 * ServiceConfig.max_body_bytes  # of a body with its framing, such as sizes of chunks
RESERVE = 64  # connections beyond the limits that are open at once
LINGER_SECONDS = 2  # for a client to read why it is refused, while what it still sends is thrown away

TOO_LARGE = ProblemError(
    *(431, "headers-too-large", "The headers are too large"),
    f"The path and headers of a request have at most {MAX_HEADER_BYTES:,} bytes and {MAX_HEADERS} lines, its body with "
    f"its framing {MAX_RECEIVED_BYTES:,} bytes. Nothing was stored.",
)
TOO_MANY = ProblemError(
    *(503, "too-many-connections", "Too many connections"),
    "As many connections are open as the service takes (service.max_connections and max_connections_per_client): "
    "close some, or try again later. Nothing was stored.",
    {"retry-after": "1"},
)


def connections_of(max_connections: int, max_of_client: int, seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol of a server's connections, which must send headers within some seconds.

    Further ones than the most of all clients, or of one address, form a reserve: they are answered once, those to
    `/health` as ever and others by 503, and the oldest makes room for a new one, so that none waits behind silent ones.
    """

    class LimitedProtocol(HttpToolsProtocol):
        lingers = False
        _expiry: asyncio.TimerHandle | None = None
        _bytes = 0  # of the headers, then of the body

        def connection_made(self, transport: Any) -> None:
            # It hands all calls on to a transport, and is of no type that mypy takes for one.
            super().connection_made(_Lingering(transport, self))  # type: ignore[arg-type]
            self._await_headers()
            others = [each for each in self.connections if each not in reserve]
            clients = [(getattr(each, "client", None) or ("",))[0] for each in others]
            if len(clients) > max_connections or clients.count((self.client or ("",))[0]) > max_of_client:
                reserve.append(self)
                if len(reserve) > RESERVE:
                    reserve.popleft().refuse(TOO_MANY, lingers=False)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            if self in reserve:
                reserve.remove(self)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._bytes += len(data)
            super().data_received(data)
            if self._bytes > (MAX_RECEIVED_BYTES if self._expiry is None else MAX_HEADER_BYTES):
                self.refuse(TOO_LARGE)

        def on_header(self, name: bytes, value: bytes) -> None:
            super().on_header(name, value)
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if len(self.headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
                self.refuse(TOO_LARGE)
                raise ValueError  # which ends the parser

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            if self in reserve and not self.url.startswith(b"/health/"):
                self.refuse(TOO_MANY)
                raise ValueError
            self._bytes = 0
            super().on_headers_complete()
            self.cycle.keep_alive &= self not in reserve

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle is None or self.cycle.response_complete:  # else the next request is here already
                self._await_headers()

        def send_400_response(self, msg: str) -> None:
            self.refuse(ProblemError(400, "not-http", "The request is no HTTP", f"{msg} Nothing was stored."))

        def refuse(self, problem: ProblemError, lingers: bool = True) -> None:
            """Close with a problem as the answer, unless another one has begun; see `_Lingering`."""
            if self.transport.is_closing():
                return
            self._stop_waiting()
            self.lingers = lingers
            response = problem.response()
            headers = {**SAFE_HEADERS, "connection": "close", **response.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(STATUS_LINE[problem.status] + f"{lines}\r\n".encode() + bytes(response.body))
            self.transport.close()

        def _await_headers(self) -> None:
            self._stop_waiting()
            self._bytes = 0
            self._expiry = self.loop.call_later(seconds, self._expire)

        def _expire(self) -> None:
            if self._bytes:
                detail = f"The headers did not arrive in {seconds:g} s (service.receive_seconds). Nothing was stored."
                self.refuse(ProblemError(408, "too-slow", "The headers arrived too slowly", detail))
            else:
                self.transport.close()

        def _stop_waiting(self) -> None:
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None

    reserve = deque[LimitedProtocol]()
    return LimitedProtocol


class _Lingering:
    """A transport that lets the client read the last answer before it closes.

    Closing while bytes of a refused request are still unread would reset the connection, and the answer would be lost.
    """

    def __init__(self, transport: Any, protocol: Any) -> None:
        self._transport, self._protocol, self._ends = transport, protocol, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._ends or self._transport.is_closing()

    def close(self) -> None:
        cycle = self._protocol.cycle
        if self._ends or not (self._protocol.lingers or (cycle is not None and cycle.more_body)):
            self._transport.close()
        elif not self._transport.is_closing():
            self._ends = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self._protocol.loop.call_later(LINGER_SECONDS, self._transport.abort)
