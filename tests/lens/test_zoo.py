"""Lenses compared over seeds."""

import pytest
from pydantic import ValidationError

from reclora_kedro.lens.zoo import compare_lenses, train_over_seeds, zoo_lens


@pytest.fixture
def brief(config):
    return config.model_copy(update={"max_epochs": 1})


def test_every_seed_is_measured_on_whole_splits(log, config) -> None:
    twice_unaided = config.model_copy(update={"max_epochs": 2, "rating_statistics": False})
    records = train_over_seeds(log, twice_unaided, seeds=(0, 1))
    assert [record["seed"] for record in records] == [0, 1]
    assert records[0]["validation_auc"] != records[1]["validation_auc"]
    for record in records:
        assert 0 <= record["test_auc"] <= 1
        assert record["test_log_loss"] > 0
        assert record["best_epoch"] in (1, 2)
        assert record["parameters"] > 1000
        assert record["rows_per_second"] > 0


def test_lenses_are_ordered_by_validation_never_by_test(log, brief) -> None:
    [record] = train_over_seeds(log, brief, seeds=(0,))
    worse = record | {"validation_auc": record["validation_auc"] - 0.1, "test_auc": 1.0}
    assert [row["lens"] for row in compare_lenses({"a": [worse], "b": [record]})] == ["b", "a"]


def test_a_single_seed_has_no_spread(log, brief) -> None:
    [record] = compare_lenses({"din": train_over_seeds(log, brief, seeds=(3,))})
    assert record["test_auc_spread"] == 0.0


def test_the_zoo_learns_from_all_rows(config) -> None:
    with pytest.raises(ValueError, match=r"lens\.training_rows is 'few_shot', but the lens zoo .*: set it to all"):
        zoo_lens(config, {"training_rows": "few_shot"})


def test_a_lens_of_the_zoo_changes_what_it_names_and_nothing_else(config) -> None:
    changed = zoo_lens(config, {"model": "sim", "dropout": 0.1})
    assert changed == config.model_copy(update={"model": "sim", "dropout": 0.1})
    with pytest.raises(ValidationError, match="dropuot"):
        zoo_lens(config, {"dropuot": 0.1})
