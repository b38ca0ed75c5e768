"""Limits on the number of connections, and on the seconds until a request's headers arrive."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def connections_of(most: int, most_of_client: int, seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol of a server's connections, which must send headers within some seconds.

    Further ones than the most of all clients, or of one address, are closed.
    """

    class LimitedProtocol(HttpToolsProtocol):
        _expiry: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_headers()
            addresses = [(getattr(each, "client", None) or ("",))[0] for each in self.connections]
            of_client = addresses.count((self.client or ("",))[0])
            if len(self.connections) > most or of_client > most_of_client:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle is None or self.cycle.response_complete:  # else the next request is here already
                self._await_headers()

        def _await_headers(self) -> None:
            self._stop_waiting()
            self._expiry = self.loop.call_later(seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None

    return LimitedProtocol
