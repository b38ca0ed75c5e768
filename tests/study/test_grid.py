"""From a grid to its cells."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.study.config import StudyConfig
from reclora_kedro.study.grid import Cell, merge, plan_cells

CONF = Path(__file__).parents[2] / "conf"
THERE = {
    "history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}, "prompt_rows": {"few_shot": 512}},
    "prompt": {"template": "sections"},
    "finetuning": {"variants": {"reclora": {"adapter": {"r": 8}}}},
    "study": {"seeds": [0]},
    "_adapter": {"r": 8},
}
RANKS = {"4": {"finetuning.variants.reclora.adapter.r": 4}, "8": {}}
ROWS = {"64": {"history.prompt_rows.few_shot": 64}, "all": {"history.prompt_rows.few_shot": None}}


def study(axes, grid="mine", seeds=(0,), **settings):
    grids = {"mine": {"title": "Mine", "axes": axes, "settings": settings}, "dropped": None}
    return StudyConfig(grid=grid, seeds=seeds, models=None, workers=1, grids=grids)


def test_cells_are_every_choice_of_settings_for_every_seed():
    cells = plan_cells(study({"rank": RANKS, "shown": ROWS}, seeds=[7, 1], **{"prompt.template": "lines"}), THERE)
    assert [(cell.seed, cell.place["rank"], cell.place["shown"]) for cell in cells] == [
        (seed, rank, shown) for seed in (7, 1) for rank in ("4", "8") for shown in ("64", "all")
    ]
    assert cells[0].parameters(THERE) == {
        "prompt": {"template": "lines"},
        "finetuning": {"variants": {"reclora": {"adapter": {"r": 4}}}},
        "history": {"prompt_rows": {"few_shot": 64}},
    }
    assert str(cells[0]) == "mine: rank 4, shown 64, seed 7"


def test_several_grids_follow_one_another():
    cells = plan_cells(study({"rank": RANKS}, grid=["mine", "mine"]), THERE)
    assert [cell.place["rank"] for cell in cells] == ["4", "8", "4", "8"]


@pytest.mark.parametrize("grid", ["few_shots", "dropped"])
def test_an_unknown_grid_is_refused(grid):
    with pytest.raises(ValueError, match=rf"study.grid names '{grid}', but study.grids has mine: choose one"):
        plan_cells(study({"rank": RANKS}, grid=grid), THERE)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("history.prompt_rows.few_shots", "history.prompt_rows.few_shot"),
        ("promt.template", "prompt.template"),
        ("finetuning.variants.reclora.adapter.rr", "finetuning.variants.reclora.adapter.r"),
        ("finetuning.variant.reclora", "finetuning.variants.reclora"),
    ],
)
def test_what_is_no_parameter_is_refused_with_the_nearest_one(path, nearest):
    with pytest.raises(ValueError, match=rf"study.grids.mine sets {path}, which is no .* nearest one is {nearest}\."):
        plan_cells(study({"axis": {"a": {path: 1}}}), THERE)


@pytest.mark.parametrize("path", ["study.seeds", "_adapter.r"])
def test_a_cell_cannot_set_what_no_run_reads(path):
    with pytest.raises(ValueError, match="is no parameter"):
        plan_cells(study({"axis": {"a": {path: 1}}}), THERE)


@pytest.mark.parametrize("other", ["history.prompt_rows.few_shot", "history.prompt_rows", "history"])
def test_a_parameter_is_set_in_one_place(other):
    with pytest.raises(ValueError, match=rf"sets {other}, but history.prompt_rows.few_shot is set for the same cell"):
        plan_cells(study({"shown": ROWS, "again": {"a": {other: {}}}}), THERE)


def test_a_new_entry_is_a_copy_with_changes():
    settings = {"history.short.latest": {"like": "retrieved", "kind": "recent"}}
    [cell] = plan_cells(study({"history": {"latest": settings}}), THERE)
    assert cell.parameters(THERE) == {"history": {"short": {"latest": {"kind": "recent", "k": 5}}}}
    with pytest.raises(ValueError, match=r"history\.short\.latest is like 'near', but history\.short has retrieved"):
        Cell("mine", {}, 0, {"history.short.latest": {"like": "near"}}).parameters(THERE)


@pytest.mark.parametrize("axis", ["auc", "model", "p_value"])
def test_an_axis_has_a_name_of_its_own(axis):
    with pytest.raises(ValidationError, match=f"axis '{axis}' has the name of another column"):
        study({axis: RANKS})


def parameters(env="base"):
    soft = {"parameters": "soft"}
    return OmegaConfigLoader(str(CONF), base_env="base", default_run_env=env, merge_strategy=soft)["parameters"]


@pytest.mark.parametrize(
    ("env", "grid"), [*(("base", grid) for grid in parameters()["study"]["grids"]), ("baselines", "paper_settings")]
)
def test_every_shipped_grid_has_parameters_that_the_steps_take(env, grid):
    there = parameters(env)
    config = StudyConfig(**there["study"] | {"grid": grid})
    cells = plan_cells(config, there)
    assert len(cells) == len({digest_of(cell, there) for cell in cells}) > 1
    for cell in cells:
        found = merge(there, cell.parameters(there))
        short = HistoryConfig(**found["history"]).short
        variants = [VariantConfig(**variant) for variant in found["finetuning"]["variants"].values() if variant]
        assert all(short[variant.history] for variant in variants)
        PromptConfig(**found["prompt"])
        LensConfig(**found["lens"])


def digest_of(cell, there):
    return str(merge(there, cell.parameters(there)))


def test_the_default_grid_is_small():
    assert len(plan_cells(StudyConfig(**parameters()["study"]), parameters())) == 2
