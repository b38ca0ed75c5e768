"""The live page in a browser: while a service starts and while it reloads, on a phone and on a desk, light and dark."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from browser import DESKTOP, LOOKS, PHONE, answering, chromium
from live_service import service_config, small_model
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service

pytestmark = pytest.mark.waits

LISTED = "document.querySelector('#user li')"
NAMELESS = """[...document.querySelectorAll("#user li")].flatMap((item) => {
  const title = item.querySelector("strong").textContent;
  return [...item.querySelectorAll("button, summary, input:not([type=hidden])")]
    .filter((each) => !each.ariaLabel?.includes(title)).map((each) => each.outerHTML);
})"""
TITLES_FIRST = """(() => {
  const title = document.querySelector("#user li strong"), events = document.querySelector("#user table");
  return title.getBoundingClientRect().top < innerHeight / 2 && title.compareDocumentPosition(events) === 4;
})()"""
TOLD = "document.getElementById('told').textContent"
WAITING = "getComputedStyle(document.getElementById('waiting')).display !== 'none'"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def current_model():
    return small_model()


@pytest.mark.parametrize("state", ["start", "reload"])
def test_the_page_is_whole_while_the_service_starts_and_while_it_reloads(tab, tmp_path, current_model, state):
    if state == "start":
        current_model = replace(current_model, llm=Future())  # which loads meanwhile
    reloading, go_on = Event(), Event()

    def load():
        if reloading.is_set():
            go_on.wait(60)
        return current_model

    service = Service(service_config(tmp_path, allowed_hosts=["127.0.0.1"]), load, Metrics())
    with answering(create_app(service)) as url, ThreadPoolExecutor(1) as pool:
        if state == "reload":
            reloading.set()
            reloaded = pool.submit(service.reload)
        for width, dark in LOOKS:
            tab.look(width, dark)
            tab.open(url)
            tab.wait(f"{LISTED} && !({WAITING})")
            assert "10 items for user 0. As an example, this is the first user" in tab.run(TOLD)
            assert tab.run("document.getElementById('told').ariaLive") == "polite"
            assert tab.run(NAMELESS) == []
            assert tab.run(TITLES_FIRST)
            assert tab.outside("section") == []
            assert state == "reload" or tab.inaccessible() == []
            tab.run("document.querySelector('[data-tab=champion]').click()")
            tab.wait("document.querySelector('#champion section')")
            assert tab.outside("section") == []
            assert state == "reload" or tab.inaccessible() == []
        go_on.set()
        if state == "reload":
            assert reloaded.result(60) is False
        for width in (PHONE, DESKTOP):
            tab.look(width)
            tab.open(f"{url}/docs")
            assert tab.outside("section") == []
            assert state == "reload" or tab.inaccessible() == []
        assert tab.errors == []


def test_the_page_is_used_by_keys_alone_and_says_what_it_waits_for_and_what_fails(tab, tmp_path, current_model):
    llm = Future()
    current_model = replace(current_model, llm=llm)
    service = Service(service_config(tmp_path, allowed_hosts=["127.0.0.1"]), lambda: current_model, Metrics())
    tab.look(PHONE)
    with answering(create_app(service)) as url:
        tab.open(url)
        tab.wait(LISTED)
        assert tab.run("document.activeElement.name") == "user"
        tab.send("Input.insertText", text="5")
        tab.press("Enter")
        tab.wait(f"{TOLD}.includes('for user 5')")
        for _ in range(20):  # the list's buttons, in their order
            if tab.run("document.activeElement.id") == "add-2":
                break
            tab.press("Tab")
        title = tab.run("document.activeElement.ariaLabel").removeprefix("Add ")
        tab.press("Enter")
        tab.wait(f"{TOLD}.includes('counts from now on')")
        assert tab.run("document.activeElement.id") == "add-2"
        assert tab.run("document.querySelector('#user table td').textContent") == title
        assert tab.errors == []
        tab.run("document.querySelector('select').value = 'llm'; document.querySelector('form').requestSubmit()")
        tab.wait(WAITING)
        llm.set_exception(RuntimeError("The LLM cannot be loaded."))
        tab.wait(f"!({WAITING}) && document.querySelector('#user [role=alert]')")
    tab.run("document.querySelector('form').requestSubmit()")
    tab.wait(f"{TOLD}.includes('does not answer')")
