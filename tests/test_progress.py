"""How far a long step is."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

import reclora_kedro
from reclora_kedro import progress
from reclora_kedro.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands, in seconds."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize("shown", [True, False])
def test_a_long_step_has_a_line_every_fifteen_seconds_off_a_terminal(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture, shown: bool
) -> None:
    with (
        caplog.at_level(logging.INFO, "reclora_kedro"),
        Progress("lens", 4_000, "rows", done=1_000, shown=shown) as bar,
    ):
        for clock.now in (4.0, 16.0, 30.0, 32.0):
            bar.update(500)
            bar.show(validation_auc="0.7")
    lines = [
        "lens: 2,000 of 4,000 rows in 16 s, 62.5 per second, about 32 s to go",
        "lens: 3,000 of 4,000 rows in 32 s, 62.5 per second, about 16 s to go",
    ]
    assert caplog.messages == (lines if shown else [])


def test_a_step_that_may_end_sooner_says_so(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "reclora_kedro"), Progress("lens", 4_000, "rows", at_most=True) as bar:
        clock.now = 16.0
        bar.update(1_000)
    assert caplog.messages == ["lens: 1,000 of 4,000 rows in 16 s, 62.5 per second, at most 48 s to go"]


def test_a_short_step_has_none(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "reclora_kedro"), Progress("lens", 15, "rows") as bar:
        for clock.now in range(15):
            bar.update()
    assert not caplog.messages


def test_every_step_shows_its_progress_this_way() -> None:
    sources = Path(reclora_kedro.__file__).parent.rglob("*.py")
    using = {path.name for path in sources if "tqdm" in path.read_text("utf-8")}
    assert using == {"progress.py"}
