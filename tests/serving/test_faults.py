"""What befalls the service from outside: its process is killed, its disk is full."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from time import sleep

import pytest
from starlette.testclient import TestClient

from forked import FORKED
from live_service import BEGIN, EVENTS_PER_USER, ITEMS, serve, service_config, small_champion
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service

KILLS, CLIENTS, EVENTS = 2, 4, 20  # events that are acknowledged, at least, before each kill


@pytest.fixture(scope="module")
def champion():
    return small_champion()


@contextmanager
def process_of(folder, champion):
    """A service in a process of its own, and its port."""
    port, tell = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=serve, args=(folder, champion, tell))
    process.start()
    tell.close()
    try:
        yield process, port.recv()
    finally:
        process.kill()
        process.join()


def send_events(port, client, acknowledged):
    """Send one event after another, each twice, until the service is gone: at first the one not acknowledged before."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        while True:
            number = len(acknowledged[client])
            event = {"user": client, "item": number % ITEMS, "rating": 4, "time": BEGIN + 10_000 + number}
            body = {"events": [event | {"event_id": f"{client}.{number}"}] * 2}
            connection.request("POST", "/events", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            acknowledged[client].append(number)
    except (OSError, HTTPException):
        connection.close()


@pytest.mark.slow
def test_acknowledged_events_survive_kills_of_the_service_under_load_and_none_counts_twice(tmp_path, champion):
    acknowledged = [list[int]() for _ in range(CLIENTS)]
    for kill in range(KILLS):
        with process_of(tmp_path, champion) as (process, port), ThreadPoolExecutor(CLIENTS) as pool:
            sending = [pool.submit(send_events, port, client, acknowledged) for client in range(CLIENTS)]
            while sum(map(len, acknowledged)) < EVENTS * (kill + 1):
                sleep(0.001)
            process.kill()
            assert [sent.result() for sent in sending] == [None] * CLIENTS
    service = Service(service_config(tmp_path), lambda: champion, Metrics())
    stored = [event.event_id for event in service.journal.between_commits(lambda content: content.events).result()]
    with TestClient(create_app(service)) as client:
        counts = [client.get(f"/users/{user}").json()["events"] - EVENTS_PER_USER for user in range(CLIENTS)]
    assert len(stored) == len({*stored}) == sum(counts)
    for user, numbers in enumerate(acknowledged):
        assert {f"{user}.{number}" for number in numbers} <= {*stored}
        assert counts[user] - len(numbers) in (0, 1)  # the last one may be stored, and not acknowledged


def test_events_that_do_not_fit_on_the_disk_are_refused_and_answers_go_on(tmp_path, champion):
    service = Service(service_config(tmp_path), lambda: champion, Metrics())
    with TestClient(create_app(service)) as client:
        event = {"user": 1, "item": 3, "rating": 5}
        assert client.post("/events", json={"events": [event | {"event_id": "a"}]}).status_code == 200
        pages = service.journal._connection.execute("PRAGMA page_count").fetchone()[0]
        service.journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        refused = client.post("/events", json={"events": [event | {"item": "x" * 200}] * 400})
        assert (refused.status_code, refused.json()["type"]) == (507, "urn:reclora:not-stored")
        assert "disk is full. Nothing of the request was stored. Free disk space" in refused.json()["detail"]
        assert client.get("/users/1").json()["events"] == EVENTS_PER_USER + 1
        assert client.post("/recommend", json={"user": 1}).status_code == 200
