"""`kedro new-log` with `kedro run`, and `Recommender.fit`, make the same lists of the same two files."""

import subprocess
import sys

import polars as pl
import pytest
from click.testing import CliRunner

from kedro_provenance.failures import RunRefusedError
from projects import catalog_of, copy_code, kedro_command, kedro_run
from reclora_kedro import Recommender, commands
from reclora_kedro.cli import cli
from reclora_kedro.current_model import model_history
from reclora_kedro.ingestion.guess import read_raw_tables
from reclora_kedro.ingestion.guess_tables import guess
from reclora_kedro.new_log.environment import environment_files, write_environment
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service
from shop import shop


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a log in which every row is liked: as new-log writes it, and without drawn negatives (shop)."""
    project = copy_code(tmp_path_factory.mktemp("shop"))
    orders, products = shop()
    orders.write_csv(project / "log.csv")
    products.write_csv(project / "items.csv")
    guessed = guess(read_raw_tables([project / "log.csv", project / "items.csv"]), lambda question, answers, it: it)
    for name, negatives in (("shop", "none"), ("drawn", "matched")):
        files = environment_files(guessed, name, project)
        files["parameters.yml"] = files["parameters.yml"].replace("kind: matched", f"kind: {negatives}")
        write_environment(files, project / "conf" / name)
    return project


def test_a_log_of_likes_alone_has_the_lists_of_python_to_the_bit(project, capsys):
    kedro_run(project, env="shop")
    said = capsys.readouterr().out
    sentence = "Every row of the log is a like. The rest of the default flow (lens, LLM and evaluation) also needs"
    assert sentence in " ".join(said.split())
    made = catalog_of(project, "shop").load("recommendations")
    lists = Recommender.fit(project / "log.csv", project / "items.csv").recommend()
    assert lists.height == 10 * lists["user_id"].n_unique()
    assert lists.equals(made.select(lists.columns))


def test_the_list_of_a_user_or_of_given_items_is_shown_with_reasons(project, tmp_path):
    kedro_run(project, env="shop", only_missing_outputs=True)
    newest = commands.newest_model(project, "shop", {})
    fitted = Recommender.fit(project / "log.csv", project / "items.csv")
    user, items = fitted.log.users["user_id"][0], [str(item) for item in fitted.log.items["item_id"][:2]]
    assert newest.recommend(user).equals(fitted.recommend(user))
    newest.save(tmp_path / "model")
    for words, lists in (([user, "-n", "3"], fitted.recommend(user, 3)), ([], fitted.recommend(histories=[items]))):
        words = words or [word for item in items for word in ("--item", item)]
        shown = CliRunner().invoke(cli, ["recommend", *words, "--model", str(tmp_path / "model")])
        rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in shown.output.splitlines() if "│" in line]
        assert rows == [[str(rank), title] for rank, title in lists.select("rank", "title").iter_rows()]
    refused = CliRunner().invoke(cli, ["recommend", user, "--model", str(tmp_path / "none")])
    assert "holds no recommender.json: name a folder that Recommender.save has written" in refused.output


def test_what_predicts_likes_is_refused_for_such_a_log(project):
    with pytest.raises(Exception, match=r"every row is a like.* Recommendations do not.*negatives"):
        kedro_run(project, env="shop", pipeline_names=["ingestion", "history", "lens"])


def test_such_a_log_is_served_without_a_lens(project):
    kedro_run(project, env="shop", only_missing_outputs=True)
    served = ServedProject(project, "shop", {}).current_model()
    assert served.lens is None
    assert "lens" not in served.versions
    for params in ({"recommendation": {"order": "lens"}}, {"service": {"model": "llm"}}):
        with pytest.raises(RunRefusedError, match=r"`kedro run --env shop --pipelines lens`, or set .*order to candid"):
            ServedProject(project, "shop", params).current_model()


WITHOUT_TORCH = """
import asyncio, sys
from importlib.machinery import PathFinder
from pathlib import Path
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)  # not installed
from kedro.framework.startup import bootstrap_project
bootstrap_project(Path.cwd())
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import Request
from reclora_kedro.serving.service import Service
import reclora_kedro.update.forgetting
served = ServedProject(Path.cwd(), "shop", {"service": {"journal": sys.argv[1]}})
service = Service(served.settings(), served.current_model, Metrics(), served.forgotten, served.withheld)
create_app(service)
user = str(service.current_model.log.users["user_id"][0])
[answer] = asyncio.run(service.answer([(lambda now: Request(rank=True, user=user, n=10), 20)]))
print("served:", *service.current_model.log.items["item_id"].gather(answer.items))
service.close()
from reclora_kedro.commands import forget
forget(Path.cwd(), env="drawn", runtime_params={"forget": {"users": ["K3"], "erase": True, "retrain": True}})
"""


def test_such_logs_are_served_and_a_user_is_forgotten_without_torch(project, tmp_path):
    """It takes 8 s: a process imports all that serving and forgetting need, and nothing before it."""
    lists = kedro_run(project, env="shop", only_missing_outputs=True).load("recommendations")
    kedro_run(project, env="drawn", pipeline_names=["ingestion", "history", "recommendation"])
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "journal.sqlite")]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    [served] = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("served:")]
    assert served == lists.filter(pl.col("user_id") == lists["user_id"][0])["item_id"].cast(str).to_list()
    catalog = catalog_of(project, "drawn")
    assert "K3" not in {*catalog.load("log").users["user_id"]}
    assert "lens" not in catalog.load("champion")["versions"]


def test_lists_of_such_a_log_grow_by_an_update_which_a_rollback_takes_back(project, monkeypatch, capsys):
    kedro_run(project, env="shop", only_missing_outputs=True)
    shop = ServedProject(project, "shop", {})
    service = Service(shop.settings(), shop.current_model, Metrics(), shop.forgotten, shop.withheld)
    before = service.current_model.log
    event = Event("e1", "K new", str(before.items["item_id"][3]), 1.0, before.last_second + 60)
    assert service.journal.add([event]).result().stored == 1
    service.close()
    catalog = kedro_run(project, env="shop", pipeline_names=["update"])
    assert "There is no lens to train" in " ".join(capsys.readouterr().out.split())
    present, first = model_history(catalog)
    assert (present["decision"]["chosen"], present["decision"]["journal_events"]) == ("lists", 1)
    assert "lens" not in present["versions"]
    grown = shop.current_model()
    assert grown.log.users["user_id"].to_list() == [*before.users["user_id"], "K new"]
    service = Service(shop.settings(), lambda: grown, Metrics(), shop.forgotten, shop.withheld)
    assert service.live.current().log.users.height > before.users.height
    service.close()
    repeated = kedro_run(project, env="shop", pipeline_names=["update"])
    assert model_history(repeated)[0]["versions"] == present["versions"]  # nothing was new
    monkeypatch.chdir(project)
    shop.roll_back()
    assert shop.current_model().log.users.height == before.users.height
    assert model_history(catalog_of(project, "shop"))[0]["versions"] == first["versions"]


def test_a_user_of_such_a_log_is_forgotten(project):
    """It takes 5 s: two users are forgotten, by a run each."""
    kedro_run(project, env="shop", only_missing_outputs=True)
    for users, retrain in (("K3", False), ("K4", True)):
        forget = {"forget": {"users": [users], "erase": True, "retrain": retrain}}
        catalog = kedro_command(commands.forget, project, forget, env="shop")
        assert not {*catalog.load("log").users["user_id"]} & {"K3", users}
        assert "K5" in catalog.load("log").users["user_id"]
        if retrain:  # the choice was made with the user's likes, and is erased
            kedro_run(project, env="shop", pipeline_names=["recommendation"])
        served = ServedProject(project, "shop", {}).current_model()
        assert served.log.users["user_id"].to_list() == catalog.load("log").users["user_id"].to_list()
