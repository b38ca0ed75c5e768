"""Every benchmark can be imported and says what it takes; `make test-benchmarks` runs each to its end."""

import importlib
import sys
from pathlib import Path

import pytest

from projects import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "ArgumentParser(" in path.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_says_what_it_takes(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(name).main()
    assert "usage:" in capsys.readouterr().out
    for other in set(sys.modules) - before:
        if Path(getattr(sys.modules[other], "__file__", None) or "/").is_relative_to(ROOT / "benchmarks"):
            del sys.modules[other]
