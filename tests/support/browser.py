"""Headless Chromium, driven by its DevTools protocol, and what it finds wrong in a page."""

import base64
import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from urllib.request import Request, urlopen

import pytest
import uvicorn
from websockets.sync.client import connect

PHONE, DESKTOP = 400, 1280  # CSS pixels
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
LOOKS = [(PHONE, False), (DESKTOP, True)]  # by day, each width and each scheme once
if NIGHTLY:
    LOOKS += [(PHONE, True), (DESKTOP, False)]
PROGRAMS = "chromium", "chromium-browser", "google-chrome"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
)
SETTLED = (
    "document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))"
)
OUTSIDE = """(cards => cards.flatMap(card => {
  const {left, right} = card.getBoundingClientRect();
  const named = each => `${each.tagName}.${each.className.baseVal ?? each.className}`;
  const told = each => `${named(each)}: ${each.textContent.trim().slice(0, 60)}`;
  const outside = [...card.querySelectorAll("*:not(.hoverlayer, .hoverlayer *)")].filter(each => {
    const box = each.getBoundingClientRect();
    return box.width && (box.left < left - 1 || box.right > right + 1);
  });
  return outside.map(told).concat(card.scrollWidth > card.clientWidth + 1 ? [`scrolled, ${told(card)}`] : []);
}))"""
"""What lies outside of its card, and cards that are wider inside than outside."""
FIGURES = """[...document.querySelectorAll(".js-plotly-plot")].flatMap(figure => {
  const whole = figure.getBoundingClientRect(), inside = figure._fullLayout._size.w, faults = [];
  const card = figure.closest(".card").getBoundingClientRect();
  if (whole.width < 0.85 * card.width) faults.push(`${figure.id} is ${whole.width} px wide in a card of ${card.width}`);
  if (inside < 0.45 * whole.width) faults.push(`the axes of ${figure.id} are ${inside} px wide of ${whole.width}`);
  const texts = [...figure.querySelectorAll(".xtitle, .ytitle, .annotation-text, .legendtext, .xtick, .ytick")]
    .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
  const across = box => box.left < whole.left - 1 || box.right > whole.right + 1;
  for (const [name, box] of texts)
    if (across(box) || box.top < whole.top - 1 || box.bottom > whole.bottom + 1) faults.push(`${name} is cut`);
  texts.forEach(([name, one], place) => texts.slice(place + 1).forEach(([other, two]) => {
    if (one.left < two.right - 2 && two.left < one.right - 2 && one.top < two.bottom - 2 && two.top < one.bottom - 2)
      faults.push(`${name} and ${other} overlap`);
  }));
  return faults;
})"""
"""Figures that don't fill their cards, and texts of figures that are cut or overlap."""


class Tab:
    """A page in a window of a width, and the errors that its console has shown."""

    def __init__(self, address: str) -> None:
        self._socket = connect(address, max_size=None)
        self._calls, self.errors = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Call a method of the protocol; its result."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=300))
            self._listen(message)
            if message.get("id") == self._calls:
                assert "error" not in message, message["error"]
                return message["result"]

    def _listen(self, message):
        kind, details = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(details["exceptionDetails"]["exception"].get("description", "exception"))
        elif kind == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in details["args"]))
        elif kind == "Log.entryAdded" and details["entry"]["level"] == "error":
            text, url = details["entry"]["text"], details["entry"].get("url", "")
            if not url.startswith("https://"):  # of another host, such as the fonts that kedro-viz asks for
                self.errors.append(f"{text} {url}")

    def run(self, script):
        """Run JavaScript; its value, or that of its promise."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]["exception"].get("description")
        return result["result"].get("value")

    def wait(self, condition, seconds=30):
        """Wait until JavaScript holds."""
        end = monotonic() + seconds
        while not self.run(f"!!({condition})"):
            assert monotonic() < end, f"{condition} does not hold after {seconds} s: {self.errors}"
            sleep(0.02)

    def open(self, url, until="document.readyState === 'complete'", seconds=30):
        """Open an address and wait until JavaScript holds there."""
        self.send("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({json.dumps(url.split('?')[0])}) && {until}", seconds)
        self.run(SETTLED)

    def look(self, width=DESKTOP, dark=False, height=900):
        """Emulate a window of a width, light or dark."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.run(SETTLED)

    def press(self, key):
        """Press a key of the keyboard."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, text="\r" if key == "Enter" else "")
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, file, whole=False):
        """Save a picture of the window, or of the whole page, as PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(file).write_bytes(base64.b64decode(shot["data"]))

    def outside(self, selector):
        """What lies outside of its card, and what makes the page wider than its window."""
        beyond = self.run("document.documentElement.scrollWidth - innerWidth")
        found = self.run(f"{OUTSIDE}([...document.querySelectorAll({json.dumps(selector)})])")
        return found + ([f"{beyond} px are right of the window"] if beyond > 0 else [])

    def inaccessible(self):
        """Serious and critical findings of axe-core, with the elements that they are about."""
        if not self.run("!!window.axe"):
            self.run(axe_source())
        found = self.run("axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations)")
        return [
            f"{each['impact']} {each['id']}: {node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


def axe_source():
    """axe-core as a package of the development group carries it; the test is skipped where that is not installed."""
    package = find_spec("axe_playwright_python")
    if package is None:
        pytest.skip("axe-core is not installed: `make` installs it with the group `dev`")
    return (Path(package.origin).parent / "axe.min.js").read_text("utf-8")


@contextmanager
def chromium(folder):
    """A tab of a Chromium of this machine; tests are skipped where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium: on Debian, `apt-get install chromium`")
    arguments = [program, *ARGUMENTS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Tab(_new_tab(folder / "DevToolsActivePort", process))
    finally:
        process.terminate()
        process.wait(30)


def _new_tab(file, process, seconds=60):
    end = monotonic() + seconds
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        assert monotonic() < end, f"Chromium tells no port after {seconds} s"
        sleep(0.05)
    port = file.read_text().split()[0]
    with urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")) as answer:
        return json.load(answer)["webSocketDebuggerUrl"]


@contextmanager
def answering(app):
    """The address of an app that this process serves meanwhile."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
