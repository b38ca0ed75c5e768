"""A small synthetic log, and constants of a base LLM's preparation for tiny LLMs."""

import pytest

from parity_log import log
from reclora_extras.base_models.config import DropLayersConfig, TuningConfig


@pytest.fixture
def spare(monkeypatch):
    """Sets how many of the first and of the last layers stay when layers are dropped."""

    def set_spared(first, last):
        monkeypatch.setattr(DropLayersConfig, "spare_first", first)
        monkeypatch.setattr(DropLayersConfig, "spare_last", last)

    return set_spared


@pytest.fixture(autouse=True)
def _small(monkeypatch, spare):
    """Batches of four rows, and one layer at either end that stays."""
    monkeypatch.setattr(TuningConfig, "batch_size", 4)
    spare(1, 1)
