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
        for clock.now in (4.0, 20.0, 30.0, 36.0):
            bar.update(500)
            bar.show(validation_auc="0.7")
    lines = [
        "lens: 2,000 of 4,000 rows in 20 s, 31.2 per second, about 64 s to go",
        "lens: 3,000 of 4,000 rows in 36 s, 46.9 per second, about 21 s to go",
    ]
    assert caplog.messages == (lines if shown else [])


def test_a_step_that_may_end_sooner_says_so(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "reclora_kedro"), Progress("lens", 4_000, "rows", at_most=True) as bar:
        for clock.now in (1.0, 17.0):
            bar.update(1_000)
    assert caplog.messages == ["lens: 2,000 of 4,000 rows in 17 s, 62.5 per second, at most 32 s to go"]


def test_what_is_prepared_once_is_not_taken_for_the_pace(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "reclora_kedro"), Progress("lens", 1_000_000, "rows") as bar:
        for clock.now in (70.0, 86.0):
            bar.update(8_000)
    assert caplog.messages == [
        "lens: 8,000 of 1,000,000 rows in 70 s",
        "lens: 16,000 of 1,000,000 rows in 86 s, 500 per second, about 1968 s to go",
    ]


def test_a_short_step_has_none(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "reclora_kedro"), Progress("lens", 15, "rows") as bar:
        for clock.now in range(15):
            bar.update()
    assert not caplog.messages


def test_every_step_shows_its_progress_this_way() -> None:
    sources = Path(reclora_kedro.__file__).parent.rglob("*.py")
    using = {path.name for path in sources if "tqdm" in path.read_text("utf-8")}
    assert using == {"progress.py"}
