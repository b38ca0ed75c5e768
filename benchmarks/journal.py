"""The journal in PostgreSQL: acknowledged events under kills of services and server, and how soon others know them.

    python benchmarks/journal.py
    python benchmarks/journal.py --events 200 --kills 2

Two services of a small model share a journal in a PostgreSQL server of this machine, with its own settings. Four
clients of each send events, one at a time, and each again until it is acknowledged. Meanwhile a service or the server
is killed (SIGKILL to all of its processes) and started anew, in turn. After each acknowledgement, one client asks the
other service for the user in its very next request, which may lack the event while the server is away: a service
goes on answering from what it has read.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any

import plotly.graph_objects as go
from results import publish
from running import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

CLIENTS = 8


class Killed:
    """What is killed and started anew: a service in a process of its own."""

    def __init__(self, journal: str, current_model: Any) -> None:
        self._journal, self._current_model, self.port = journal, current_model, 0
        self.start()

    def start(self) -> None:
        from forked import FORKED
        from live_service import serve

        read, tell = FORKED.Pipe(duplex=False)
        self._process = FORKED.Process(target=serve, args=(self._journal, self._current_model, tell))
        self._process.start()
        tell.close()
        self.port = read.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and content of an answer; 0 for a service that does not answer."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
    except (OSError, HTTPException):
        return 0, None


def send(
    client: int,
    services: list[Killed],
    done: threading.Event,
    numbers: list[int],
    seen: Counter[str],
    away: threading.Event,
) -> None:
    """Send events of a user of its own, and compare what the other service knows of the user in its next answer."""
    from live_service import BEGIN, ITEMS

    own, other = services[client % 2], services[1 - client % 2]
    status = 200
    while not done.is_set() or status != 200:
        number = len(numbers)
        event = {"user": 1000 + client, "item": number % ITEMS, "rating": 4, "time": BEGIN + number}
        status, _ = ask(own.port, "POST", "/events", {"events": [event | {"event_id": f"{client}.{number}"}]})
        seen[f"status {status}"] += 1
        if status != 200:
            time.sleep(0.05)
        else:
            numbers.append(number)
            if client < 2:
                found, user = ask(other.port, "GET", f"/users/{1000 + client}")
                if found:
                    seen["looks of the other service"] += 1
                    when = "while the server was away" if away.is_set() else "otherwise"
                    seen[f"looks that lacked the event {when}"] += found != 200 or user["events"] < len(numbers)


def measure(events: int, kills: int) -> list[dict[str, Any]]:
    """Acknowledged, lost and doubled events, and looks of another service."""
    from live_service import small_model
    from postgres_server import PostgresServer
    from reclora_kedro.serving.journal_databases import journal_database
    from reclora_kedro.serving.journal_tables import stored_events

    server = PostgresServer()
    current_model, journal = small_model(), server.new_database()
    services = [Killed(journal, current_model), Killed(journal, current_model)]
    acknowledged, seen, done = [list[int]() for _ in range(CLIENTS)], Counter[str](), threading.Event()
    away = threading.Event()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            sending = [
                pool.submit(send, each, services, done, acknowledged[each], seen, away) for each in range(CLIENTS)
            ]
            for kill in range(kills + 1):
                while sum(map(len, acknowledged)) < events * (kill + 1) // (kills + 1):
                    time.sleep(0.01)
                if kill < kills:
                    killed = (server, *services)[kill % 3]
                    if killed is server:
                        away.set()
                    killed.kill()
                    killed.start()
                    away.clear()
            done.set()
            for each in sending:
                each.result()
        connection = journal_database(journal).connect_to_read()
        assert connection is not None
        stored = Counter(event.event_id for event in stored_events(connection))
        connection.close()
    finally:
        for service in services:
            service.kill()
        server.remove()
    sent = {f"{client}.{number}" for client, numbers in enumerate(acknowledged) for number in numbers}
    rows = {"kills of the server": len(range(0, kills, 3)), "kills of services": kills - len(range(0, kills, 3))}
    rows |= {"acknowledged": len(sent), "lost": len(sent - stored.keys()), "stored twice": stored.total() - len(stored)}
    return [{"count": name, "events": value} for name, value in (rows | dict(sorted(seen.items()))).items()]


def main() -> None:
    """Measure, then show and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="acknowledged, at least")
    parser.add_argument("--kills", type=int, default=21, help="of server and services in turn")
    arguments = parser.parse_args()
    rows = measure(arguments.events, arguments.kills)
    figure = go.Figure(go.Bar(x=[row["count"] for row in rows], y=[row["events"] for row in rows]))
    publish("journal", {"The journal in PostgreSQL under kills": rows}, figure)


if __name__ == "__main__":
    main()
