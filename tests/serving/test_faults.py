"""Faults from outside: the process is killed, the disk is full, clients are slow or gone."""

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection, HTTPException
from signal import SIGTERM
from sqlite3 import SQLITE_DENY as DENY
from sqlite3 import SQLITE_INSERT as INSERT
from sqlite3 import SQLITE_OK as OK
from threading import Event
from time import monotonic, sleep, time

import polars as pl
import psutil
import pytest
from starlette.testclient import TestClient

from forked import FORKED
from live_service import BEGIN, EVENTS_PER_USER, ITEMS, USERS, block, ingestion, serve, service_config, small_model
from reclora_kedro.serving import routes
from reclora_kedro.serving.app import create_app, create_server
from reclora_kedro.serving.connections import RESERVE
from reclora_kedro.serving.guard import Guard
from reclora_kedro.serving.journal_databases import SqliteFile
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service

pytestmark = pytest.mark.waits

KILLS, CLIENTS, EVENTS = 2, 4, 20  # events that are acknowledged, at least, before each kill
ITEMS_SENT = 6  # items likewise


@pytest.fixture(scope="module")
def current_model():
    return small_model()


@contextmanager
def process_of(journal, current_model, **changes):
    """A service in a process of its own, and its port."""
    port, tell = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=serve, args=(journal, current_model, tell), kwargs=changes)
    process.start()
    tell.close()
    try:
        yield process, port.recv()
    finally:
        process.kill()
        process.join()


def wait_for(acknowledged, count, sending):
    """Wait until `count` are acknowledged; fail when a client ends before, or after two minutes.

    The pool of the clients is entered before the service, which is gone, then, when the pool waits for them.
    """
    end = monotonic() + 120
    while sum(map(len, acknowledged)) < count:
        assert monotonic() < end
        for sent in sending:
            if sent.done():
                raise AssertionError("A client ended before the kill") from sent.exception()
        sleep(0.001)


def send_events(port, client, acknowledged, values=lambda number: {"rating": 4}):
    """Send one event after another, each twice, until the service is gone: at first the one not acknowledged before."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        while True:
            number = len(acknowledged[client])
            event = {"user": client, "item": number % ITEMS, "time": BEGIN + 10_000 + number} | values(number)
            body = {"events": [event | {"event_id": f"{client}.{number}"}] * 2}
            connection.request("POST", "/events", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            acknowledged[client].append(number)
    except (OSError, HTTPException):
        connection.close()


def send_items(port, client, acknowledged):
    """Add one item after another, and change it, until the service is gone."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        while True:
            number = len(acknowledged[client])
            item = {"item": 1000 * (client + 1) + number, "title": f"Film {number % ITEMS} of {client}"}
            for method, more in (("POST", {}), ("PUT", {"genres": f"War {number}"})):
                body = json.dumps({"items": [item | more]})
                connection.request(method, "/items", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                found = answer.read()
                # The last one before a kill may be stored with what followed it.
                assert answer.status == 200 or (method, answer.status) == ("POST", 409), found
            acknowledged[client].append(number)
    except (OSError, HTTPException):
        connection.close()


def clicked(number):
    return {"clicked": number % 2 == 1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "server"])
def test_acknowledged_items_and_impressions_survive_kills_of_the_service_by_their_content(
    request, tmp_path, current_model, kind
):
    columns = block("ingestion")["interactions"] | {"rating": None, "clicked": "clicked"}
    of_clicks = replace(current_model, ingestion=ingestion(interactions=columns))
    journal = tmp_path if kind == "file" else request.getfixturevalue("postgres")
    service = Service(service_config(journal), lambda: of_clicks, Metrics())
    items, impressions = ([list[int]() for _ in range(CLIENTS // 2)] for _ in range(2))
    for kill in range(KILLS):
        with ThreadPoolExecutor(CLIENTS) as pool, process_of(journal, of_clicks) as (process, port):
            sending = [pool.submit(send_items, port, client, items) for client in range(len(items))]
            sending += [pool.submit(send_events, port, user, impressions, clicked) for user in range(len(impressions))]
            wait_for(items, ITEMS_SENT * (kill + 1), sending)
            wait_for(impressions, EVENTS * (kill + 1), sending)
            process.kill()
            assert [sent.result() for sent in sending] == [None] * CLIENTS
    with TestClient(create_app(service)) as client:
        client.get("/health/ready")
        service.take_items()
        kept = service.current_model.log.items
        stored = {
            event.event_id: (event.item_id, event.rating, event.timestamp) for event in service.journal.content().events
        }
    assert kept["item_id"].n_unique() == kept.height
    known = dict(kept.select("item_id", pl.concat_list("title", "genres")).iter_rows())
    for sender, numbers in enumerate(items):
        sent = {1000 * (sender + 1) + each: [f"Film {each % ITEMS} of {sender}", f"War {each}"] for each in numbers}
        assert {item: known[item] for item in sent} == sent
        assert sum(item // 1000 == sender + 1 for item in known) - len(numbers) in (0, 1)
    for user, numbers in enumerate(impressions):
        shown = {
            f"{user}.{each}": (str(each % ITEMS), 1.0 if each % 2 else None, BEGIN + 10_000 + each) for each in numbers
        }
        assert {event: stored[event] for event in shown} == shown
        assert sum(event.startswith(f"{user}.") for event in stored) - len(numbers) in (0, 1)


def live(port):
    """Whether the service of a port answers."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "server"])
def test_acknowledged_events_survive_kills_of_the_service_under_load_and_none_counts_twice(
    request, tmp_path, current_model, kind
):
    journal = tmp_path if kind == "file" else request.getfixturevalue("postgres")
    service = Service(service_config(journal), lambda: current_model, Metrics())  # another one behind the same journal
    acknowledged = [list[int]() for _ in range(CLIENTS)]
    for kill in range(KILLS):
        with ThreadPoolExecutor(CLIENTS) as pool, process_of(journal, current_model) as (process, port):
            sending = [pool.submit(send_events, port, client, acknowledged) for client in range(CLIENTS)]
            wait_for(acknowledged, EVENTS * (kill + 1), sending)
            process.kill()
            assert [sent.result() for sent in sending] == [None] * CLIENTS
    stored = [event.event_id for event in service.journal.content().events]
    with TestClient(create_app(service)) as client:
        counts = [client.get(f"/users/{user}").json()["events"] - EVENTS_PER_USER for user in range(CLIENTS)]
    assert len(stored) == len({*stored}) == sum(counts)
    for user, numbers in enumerate(acknowledged):
        assert {f"{user}.{number}" for number in numbers} <= {*stored}
        assert counts[user] - len(numbers) in (0, 1)  # the last one may be stored, and not acknowledged


@pytest.mark.slow
def test_acknowledged_events_survive_kills_of_the_database_server_and_every_service_knows_them(
    postgres_server, postgres, current_model
):
    acknowledged, stop = [list[int]() for _ in range(CLIENTS)], Event()
    with (
        ThreadPoolExecutor(CLIENTS) as pool,
        process_of(postgres, current_model) as (_, port),
        process_of(postgres, current_model) as (_, other),
    ):
        ports = [port, other] * CLIENTS
        sending = [pool.submit(send_again, ports[client], client, acknowledged, stop) for client in range(CLIENTS)]
        for kill in range(KILLS):
            wait_for(acknowledged, EVENTS * (kill + 1), sending)
            postgres_server.kill()
            postgres_server.start()
        stop.set()
        assert [sent.result() for sent in sending] == [None] * CLIENTS
        for each in (port, other):
            assert [events_of(each, user) for user in range(CLIENTS)] == [len(numbers) for numbers in acknowledged]


def send_again(port, client, acknowledged, stop):
    """Send one event after another, and each until it is acknowledged, whatever comes in between."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        status = 200
        while not stop.is_set() or status != 200:
            number = len(acknowledged[client])
            event = {"user": client, "item": number % ITEMS, "rating": 4, "time": BEGIN + 10_000 + number}
            body = {"events": [event | {"event_id": f"{client}.{number}"}]}
            connection.request("POST", "/events", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            text, status = answer.read(), answer.status
            assert status in (200, 500, 503, 507), text  # 500: it is stored, and could not be read again
            if status == 200:
                acknowledged[client].append(number)


def events_of(port, user):
    """How many events a service knows of a user, besides those of the current model's log."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", f"/users/{user}")
        return json.load(connection.getresponse())["events"] - EVENTS_PER_USER


@pytest.mark.parametrize(("requests", "seconds"), [(1, 20), (100, 2)])
def test_sigterm_ends_a_process_in_time_and_requests_that_can_be_are_answered(
    tmp_path, current_model, requests, seconds
):
    large = [{"user": user, "n": ITEMS, "include_seen": True, "explain": True} for user in range(USERS)]
    with process_of(tmp_path, current_model, shutdown_seconds=seconds, rows_per_batch=1) as (process, port):
        assert live(port)
        connections = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(requests)]
        for connection in connections:
            body = json.dumps({"requests": large})
            connection.request("POST", "/recommend", body, {"content-type": "application/json"})
        assert live(port)  # and has read what was sent before
        process.terminate()
        began = monotonic()
        answers = (
            [json.load(connection.getresponse())["answers"] for connection in connections] if requests == 1 else []
        )
        process.join(30)
        assert (process.exitcode, [len(each) for each in answers]) == (-SIGTERM, [len(large)] * len(answers))
        assert monotonic() - began < seconds + 1
    Service(service_config(tmp_path), lambda: current_model, Metrics()).close()


def test_events_that_do_not_fit_on_the_disk_are_refused_and_answers_go_on(tmp_path, current_model):
    service = Service(service_config(tmp_path), lambda: current_model, Metrics())
    with TestClient(create_app(service)) as client:
        event = {"user": 1, "item": 3, "rating": 5}
        assert client.post("/events", json={"events": [event | {"event_id": "a"}]}).status_code == 200
        pages = service.journal._connection.driver.execute("PRAGMA page_count").fetchone()[0]
        service.journal._connection.driver.execute(f"PRAGMA max_page_count = {pages}")
        refused = client.post("/events", json={"events": [event | {"item": "x" * 200}] * 400})
        assert (refused.status_code, refused.json()["type"]) == (507, "urn:reclora:not-stored")
        assert "disk is full. Nothing of the request was stored. Free disk space" in refused.json()["detail"]
        assert 'reclora_journal_faults_total{step="commit"} 1.0' in client.get("/metrics").text
        assert client.get("/users/1").json()["events"] == EVENTS_PER_USER + 1
        assert client.post("/recommend", json={"user": 1}).status_code == 200
        service.journal._connection.driver.set_authorizer(lambda action, *_: DENY if action == INSERT else OK)
        unready = client.get("/health/ready")
        assert (unready.status_code, unready.json()["title"]) == (503, "Events cannot be stored and read")
        service.journal._connection.driver.set_authorizer(None)
        assert client.get("/health/ready").status_code == client.get("/health/ready").status_code == 200


def test_a_journal_that_cannot_be_written_is_known_before_the_first_event(tmp_path, current_model, monkeypatch):
    connect = SqliteFile.connect

    def connect_read_only(database):
        connection = connect(database)
        connection.driver.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(SqliteFile, "connect", connect_read_only)
    service = Service(service_config(tmp_path), lambda: current_model, Metrics())
    end = monotonic() + 10
    while service.journal.fault is None and monotonic() < end:
        sleep(0.01)
    with TestClient(create_app(service)) as client:
        unready = client.get("/health/ready")
        assert (unready.status_code, unready.json()["title"]) == (503, "Events cannot be stored and read")
        assert client.post("/recommend", json={"user": "2"}).json()["items"]


def test_an_answer_that_nobody_waits_for_is_not_made(tmp_path):
    ends, sent = [], []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(5)
        finally:
            ends.append("cancelled")

    messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]
    metrics = Metrics()
    guard = Guard(app, service_config(tmp_path), None, metrics)
    headers = [(b"host", b"testserver")]
    scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": headers}

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    assert (ends, sent) == (["cancelled"], [])
    assert 'status="499"} 1.0' in metrics.text().decode()


@pytest.mark.parametrize("skew", [-86_400, -3600, -50, 50, 3600, 86_400], ids=lambda seconds: f"{seconds} s")
def test_services_of_one_journal_whose_clocks_differ_lose_nothing_and_count_nothing_twice(
    tmp_path, current_model, monkeypatch, skew
):
    """What is refused as it lies ahead of a clock says the limit, and stores nothing."""
    clock, now = [0], int(time())
    monkeypatch.setattr(routes, "time", lambda: now + clock[0])
    services = [Service(service_config(tmp_path), lambda: current_model, Metrics()) for _ in range(2)]
    with TestClient(create_app(services[0])) as right, TestClient(create_app(services[1])) as wrong:

        def ask(client, method, path, events=None):
            clock[0] = skew if client is wrong else 0
            return client.request(method, path, json=events and {"events": events})

        def counts():
            return [ask(client, "GET", "/users/3").json()["events"] for client in (right, wrong)]

        event, acknowledged = {"user": 3, "item": 9, "rating": 4}, 0
        for number, client in enumerate((right, wrong) * 2):
            named = event | {"event_id": f"e{number}", "item": number}
            assert ask(client, "POST", "/events", [named]).json()["accepted"] == 1
            other = wrong if client is right else right  # to which it is sent again
            assert ask(other, "POST", "/events", [named]).json()["duplicates"] == 1
            acknowledged += 1
            assert counts() == [EVENTS_PER_USER + acknowledged] * 2
        sent = [event | {"event_id": "timed", "time": now + max(skew, 0)}]
        answers = [ask(client, "POST", "/events", sent) for client in (right, wrong)]
        is_ahead = [skew > 60, skew < -60]  # of the clock of each
        assert [answer.status_code for answer in answers] == [422 if ahead else 200 for ahead in is_ahead]
        assert all("it must be a time from" in answer.text for answer in answers if answer.status_code == 422)
        acknowledged += not all(is_ahead)
        assert counts() == [EVENTS_PER_USER + acknowledged] * 2
        assert ask(wrong, "DELETE", "/users/3/events").json()["deleted_from_journal"] == acknowledged
        assert counts() == [0, 0]
        assert ask(right, "POST", "/events", [event]).json()["accepted"] == 1  # though a clock was ahead
        assert counts() == [1, 1]


@contextmanager
def server_of(folder, current_model, **changes):
    """A service on a port, answered by a thread."""
    config = service_config(folder, allowed_hosts=["127.0.0.1"], **changes)
    server = create_server(create_app(Service(config, lambda: current_model, Metrics())), config)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run, [listening])
        try:
            yield partial(socket.create_connection, listening.getsockname(), timeout=5)
        finally:
            server.should_exit = True
            running.result(10)


def assert_is_refused(connection, status, words):
    """What a client that first sends all and then reads is told until the connection ends, which is no reset."""
    answer = b"".join(iter(partial(connection.recv, 9999), b"")).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert words in answer


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"x-long: " + 50_000 * b"1" + b"\r\n\r\n", 431, "32,768 bytes"),
        (b"x-long: " + 50_000_000 * b"1", 431, "32,768 bytes"),  # which never ends
        (101 * b"a: b\r\n" + b"\r\n", 431, "100 lines"),
        (b"content-length: 9000000\r\n\r\n" + 9_000_000 * b"1", 413, "1,048,576 bytes"),
        (b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + 50_000_000 * b"1", None, ""),
        (b"no header\r\n\r\n", 400, "is no HTTP"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_arrives_before_a_token_is_bounded_and_the_refusal_is_an_answer(
    tmp_path, current_model, sent, status, words
):
    with server_of(tmp_path, current_model) as connect, connect() as connection:
        before = psutil.Process().memory_info().rss
        with suppress(ConnectionError):
            connection.sendall(b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\n" + sent)
        if status:
            assert_is_refused(connection, status, words)
        assert psutil.Process().memory_info().rss - before < 2**25 + len(sent)


def test_health_is_answered_however_many_connections_are_silent(tmp_path, current_model):
    with server_of(tmp_path, current_model, max_connections=2) as connect, ExitStack() as silent:
        for _ in range(2 + 2 * RESERVE):
            silent.enter_context(connect()).sendall(b"GET /items HTTP/1.1\r\n")
        for _ in range(3):
            with connect() as health:
                health.sendall(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert_is_refused(health, 200, "live")


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_client"])
def test_connections_are_limited_and_slow_ones_end(tmp_path, current_model, limit):
    with server_of(tmp_path, current_model, receive_seconds=0.3, **{limit: 2}) as connect:
        head = b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        with connect() as without_headers, connect() as without_body:
            without_headers.sendall(head)
            without_body.sendall(head + b"content-length: 9\r\n\r\n{")
            with connect() as third, connect() as health:
                third.sendall(b"GET /items HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert_is_refused(third, 503, "service.max_connections")
                health.sendall(b"GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert_is_refused(health, 200, "ready")
            assert_is_refused(without_headers, 408, "service.receive_seconds")
            assert_is_refused(without_body, 408, "service.receive_seconds")
        with connect() as patient:
            for _ in range(2):
                patient.sendall(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                answer = b""
                while b'"live"' not in answer:  # head and body may come one after the other
                    part = patient.recv(9999)
                    assert part
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200 ")
                sleep(0.1)
