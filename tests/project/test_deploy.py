"""The files in deploy/: they name commands, settings and routes that exist, and agree with one another."""

import re
import shlex
import tomllib

import pytest
import yaml
from kedro.framework.cli.project import run

from projects import ROOT
from reclora_kedro.cli import cli, split_params
from reclora_kedro.pipelines.registry import PIPELINES
from reclora_kedro.serving.guard import OPEN_PATHS

DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
UNITS = {path.name: path.read_text(encoding="utf-8") for path in (DEPLOY / "systemd").glob("reclora-[!.]*")}
COMMON = (DEPLOY / "systemd/reclora-.service.d/common.conf").read_text(encoding="utf-8")
SERVICE = yaml.safe_load((ROOT / "conf/base/parameters_service.yml").read_text(encoding="utf-8"))["service"]


def settings(unit, name):
    return re.findall(rf"^{name}=(.*)$", UNITS[unit], flags=re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [shlex.split(command) for command in re.findall(r"^ExecStart=\S+/kedro (.*)$", "\n".join(UNITS.values()), re.M)]
    + [yaml.safe_load(re.search(r"^CMD (.*)$", CONTAINER, re.M)[1])],
    ids=" ".join,
)
def test_commands_and_what_they_name_exist(words):
    command = {**cli.commands, "run": run}[words[0]]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options.keys() <= {name for option in command.params for name in option.opts}
    assert {*options.get("--pipelines", "update").split(",")} <= {*PIPELINES.modules()}
    parameters = split_params(None, None, options.get("--params", ""))
    assert parameters.keys() <= {"service"}
    assert parameters.get("service", {}).keys() <= SERVICE.keys()


def test_the_container_asks_the_service_where_it_answers():
    port, route = re.search(r"urlopen\('http://127\.0\.0\.1:(\d+)(/\S+)'", CONTAINER).groups()
    assert (int(port), route) == (SERVICE["port"], "/health/ready")
    assert route in OPEN_PATHS
    assert f"EXPOSE {port}\n" in CONTAINER


def test_what_the_container_copies_is_there():
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINER, re.M)
    assert all((ROOT / path).exists() for paths in copied for path in paths.split())
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {path.split("/")[0] for paths in copied for path in paths.split()} <= {line[1:] for line in ignored}


def test_a_service_has_the_time_to_end_that_its_settings_give():
    [seconds] = settings("reclora-serve.service", "TimeoutStopSec")
    assert int(seconds) > SERVICE["shutdown_seconds"]


def test_units_are_there_and_read_the_journal_of_the_service():
    for unit in UNITS:
        assert unit.startswith("reclora-")  # which have the common part
        assert unit.endswith(".service") or unit.replace(".timer", ".service") in UNITS
    journal = SERVICE["journal"].replace("${globals:data}", "/srv/reclora/data")
    assert f" {journal} " in settings("reclora-backup.service", "ExecStart")[0]
    assert "ReadWritePaths=/srv/reclora/data\n" in COMMON
    assert f"KEDRO_LOGGING_CONFIG=/srv/reclora/{(DEPLOY / 'logging.yml').name} " in COMMON


def test_the_folder_of_an_installed_package_names_the_project_of_this_one():
    folder, project = (tomllib.loads(path.read_text()) for path in (DEPLOY / "pyproject.toml", ROOT / "pyproject.toml"))
    assert folder["tool"]["kedro"] == project["tool"]["kedro"] | {"source_dir": "."}


def test_the_proxy_knows_the_services_of_the_composition_which_keep_one_journal_in_its_database():
    composed = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]
    upstream = re.findall(r"server (\w+):(\d+)", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"))
    assert [(name, int(port)) for name, port in upstream] == [("one", SERVICE["port"]), ("two", SERVICE["port"])]
    [(block, changed)] = yaml.safe_load((DEPLOY / "compose-parameters.yml").read_text(encoding="utf-8")).items()
    assert (block, changed["journal"]) == ("service", "postgresql://reclora@database/reclora")
    assert changed.keys() <= SERVICE.keys()
    assert "database" in composed
    for name, _ in upstream:
        assert composed[name]["command"] == ["serve"]  # whose settings an update in its container has, too
        assert "./compose-parameters.yml:/srv/reclora/conf/local/parameters.yml:ro" in composed[name]["volumes"]
        assert {*composed[name]["build"]["args"]["EXTRAS"].split(",")} <= {*PROJECT["optional-dependencies"]}
        assert (DEPLOY / composed[name]["build"]["context"] / composed[name]["build"]["dockerfile"]).exists()
