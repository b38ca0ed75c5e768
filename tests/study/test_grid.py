"""From a grid to its cells."""

from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from kedro_provenance.parameters import soft_merge
from kedro_provenance.session import CachingConfigLoader
from reclora_kedro.datasets.study_grids import StudyGridsDataset
from reclora_kedro.extensions import packages_conf
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.pipelines.finetuning.pipeline import objective_inputs
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.settings import CONFIG_LOADER_ARGS
from reclora_kedro.study.config import GridConfig, SearchConfig, StudyConfig
from reclora_kedro.study.grid import Cell, load_grids, plan_cells, require_models
from reclora_kedro.study.search import Search

CONF = Path(__file__).parents[2] / "conf"
THERE = {
    "history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}, "prompt_rows": {"few_shot": 512}},
    "prompt": {"template": "sections"},
    "finetuning": {"variants": {"reclora": {"adapter": {"r": 8}}}},
    "scoring": {"baselines": ["boosted_trees"]},
    "study": {"seeds": [0]},
    "_adapter": {"r": 8},
}
RANKS = {"4": {"finetuning.variants.reclora.adapter.r": 4}, "8": {}}
ROWS = {"64": {"history.prompt_rows.few_shot": 64}, "all": {"history.prompt_rows.few_shot": None}}


def cells_of(axes, seeds=(0,), **settings):
    return plan_cells({"mine": GridConfig(title="Mine", axes=axes, settings=settings)}, seeds, THERE)


def test_models_that_no_cell_scores_are_refused_before_any_is_run():
    cells = cells_of({"variant": {"mine": {"finetuning.variants.mine": {"like": "reclora"}}}})
    require_models(["mine", "reclora", "lens", "boosted_trees"], cells, THERE)
    require_models(None, cells, THERE)
    with pytest.raises(ValueError, match=r"study\.models names 'recloar', but the cells have .*nearest one is reclora"):
        require_models(["recloar"], cells, THERE)


def test_cells_are_every_choice_of_settings_for_every_seed():
    cells = cells_of({"rank": RANKS, "shown": ROWS}, seeds=[7, 1], **{"prompt.template": "lines"})
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
    files = {name: partial(dict, title=name, axes={"rank": RANKS}) for name in ("first", "second", "third")}
    grids = load_grids(["second", "first"], files)
    assert [str(cell) for cell in plan_cells(grids, [7], THERE)] == [
        f"{grid}: rank {rank}, seed 7" for grid in ("second", "first") for rank in ("4", "8")
    ]


def test_a_grid_may_name_its_seeds_and_end_at_the_lens():
    grid = GridConfig(title="Lenses", until="lens", seeds=[3, 1], axes={"rank": {"8": {}}})
    whole = GridConfig(title="Whole", axes={"rank": {"8": {}}})
    cells = plan_cells({"lenses": grid, "whole": whole}, [7], THERE)
    assert [(cell.seed, cell.outputs[0]) for cell in cells] == [
        (3, "lens_metrics"),
        (1, "lens_metrics"),
        (7, "metrics"),
    ]


def test_an_unknown_grid_is_refused_with_the_nearest_one():
    files = {"few_shot": dict, "rank": dict}
    refusal = r"names 'few_shots', but the grids are few_shot, rank\. The nearest one is few_shot\."
    with pytest.raises(ValueError, match=refusal):
        load_grids("few_shots", files)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"title": "Mine"}, r"mine\.axes is missing"),
        ({"title": "Mine", "axes": {}}, r"mine\.axes is \{\}: .*at least 1 item"),
        ({"title": "Mine", "axes": {"rank": RANKS}, "axis": {}}, r"mine\.axis is not a parameter\. The .*mine\.axes"),
        (None, "mine is null: input should be a valid dictionary"),
    ],
)
def test_a_file_that_is_no_grid_is_refused(content, fault):
    with pytest.raises(ValueError, match=rf"mine\.yml is not a grid:\n{fault}"):
        load_grids("mine", {"mine": lambda: content})


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
    with pytest.raises(ValueError, match=rf"Grid mine sets {path}, which is not .* nearest one is {nearest}\."):
        cells_of({"axis": {"a": {path: 1}}})


@pytest.mark.parametrize("path", ["study.seeds", "_adapter.r"])
def test_a_cell_cannot_set_what_no_run_reads(path):
    with pytest.raises(ValueError, match="is not a parameter"):
        cells_of({"axis": {"a": {path: 1}}})


@pytest.mark.parametrize("other", ["history.prompt_rows.few_shot", "history.prompt_rows", "history"])
def test_a_parameter_is_set_in_one_place(other):
    with pytest.raises(ValueError, match=rf"sets {other}, but history.prompt_rows.few_shot is set for the same cell"):
        cells_of({"shown": ROWS, "again": {"a": {other: {}}}})


def test_a_cell_changes_what_it_names_alone():
    session = {"recommendation": {"method": "linear", "top_n": 5}}
    cell = Cell("mine", {}, 0, {"recommendation.method": "fusion"})
    assert cell.runtime_params({"recommendation": {}}, session) == {"recommendation": {"method": "fusion", "top_n": 5}}


def test_a_new_entry_is_a_copy_with_changes():
    settings = {"history.short.latest": {"like": "retrieved", "kind": "recent"}}
    [cell] = cells_of({"history": {"latest": settings}})
    assert cell.parameters(THERE) == {"history": {"short": {"latest": {"kind": "recent", "k": 5}}}}
    with pytest.raises(ValueError, match=r"history\.short\.latest is like 'near': history\.short has retrieved"):
        Cell("mine", {}, 0, {"history.short.latest": {"like": "near"}}).parameters(THERE)


@pytest.mark.parametrize("axis", ["auc", "model", "p_value"])
def test_an_axis_has_a_name_of_its_own(axis):
    with pytest.raises(ValidationError, match=f"axis '{axis}' is also a column of the results table"):
        cells_of({axis: RANKS})


def parameters(env="base"):
    return CachingConfigLoader(str(CONF), **CONFIG_LOADER_ARGS | {"default_run_env": env})["parameters"]


ENVIRONMENTS = {"paper_settings": "baselines"}
"""Of grids that are not for conf/base."""
FILES = StudyGridsDataset(path=str(CONF / "studies"), packages=packages_conf("studies")).load()


@pytest.mark.parametrize("grid", sorted(FILES))
def test_every_shipped_grid_has_parameters_that_the_steps_take(grid):
    there = parameters(ENVIRONMENTS.get(grid, "base"))
    grids = load_grids(grid, FILES)
    is_search = isinstance(grids[grid], SearchConfig)
    cells = Search(grid, grids[grid], [0], there).corners() if is_search else plan_cells(grids, [0], there)
    found = [soft_merge(there, cell.parameters(there)) for cell in cells]
    assert len(found) == len({f"{cell.seed} {values}" for cell, values in zip(cells, found, strict=True)})
    for parameters_of_cell in found:
        short = HistoryConfig(**parameters_of_cell["history"]).short
        variants = [VariantConfig(**one) for one in parameters_of_cell["finetuning"]["variants"].values() if one]
        assert all(short[variant.history] for variant in variants)
        PromptConfig(**parameters_of_cell["prompt"])
        LensConfig(**parameters_of_cell["lens"])
        names = PipelineNames.from_parameters(parameters_of_cell)
        for variant in names.variants:
            objective_inputs(variant, names)
        for step in ("ranking", "recommendation", "update", "export"):  # a cell's pipelines are built with these
            names.optional_variant_of(step)


@pytest.mark.parametrize(("env", "grid", "cells"), [("base", "first_look", 2), ("baselines", "paper_settings", 2)])
def test_the_grid_of_an_environment_is_small(env, grid, cells):
    study = StudyConfig(**parameters(env)["study"])
    assert study.grid == grid
    assert len(plan_cells(load_grids(study.grid, FILES), study.seeds, parameters(env))) == cells
