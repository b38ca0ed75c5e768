"""The code of a node is all that it may run of the project, and no more."""

import functools
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edits import forget_code
from kedro_provenance.code import code_digest

PROJECT = {
    "toy/__init__.py": "",
    "toy/settings.py": "LIMIT = 1\n",
    "toy/helpers.py": "def helper():\n    return 1\n",
    "toy/steps/__init__.py": "from .pipeline import create_pipeline\n",
    "toy/steps/pipeline.py": "from kedro.pipeline import Node, Pipeline\nfrom . import nodes, other_nodes\n",
    "toy/steps/nodes.py": "def run():\n    return 1\n",
    "toy/steps/other_nodes.py": "from toy import helpers\nVALUE = 1\n",
    "toy/models/__init__.py": "VALUE = 1\n",
    "toy/models/base.py": "MODELS = {}\ndef register(model):\n    MODELS[model.__name__] = model\n    return model\n",
    "toy/models/sim.py": "VALUE = 1\n",
    "toy/models/din.py": "VALUE = 1\n",
    "toy/models/deep/__init__.py": "",
    "toy/models/deep/core.py": "VALUE = 1\n",
}
REGISTRY = {
    "toy/models/__init__.py": "from . import sim\n",
    "toy/models/sim.py": "from .base import register\n@register\nclass Sim:\n    VALUE = 1\n",
}
SUBCLASS = {
    "toy/models/__init__.py": "from toy.models import sim\n",
    "toy/models/base.py": "class Base:\n    def __init_subclass__(cls):\n        KNOWN.append(cls)\n",
    "toy/models/sim.py": "from toy.models.base import Base\nclass Sim(Base):\n    VALUE = 1\n",
}
BY_NAME = "from importlib import import_module\n"
RELATIVE = {"toy/models/__init__.py": f"{BY_NAME}f = lambda n: import_module(f'.{{n}}', __package__)\n"}
ON_REQUEST = {"toy/__init__.py": "def __getattr__(name):\n    from toy.helpers import helper\n    return helper\n"}
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import toy.helpers\n"
SAME_HELPER = 'def helper():\n    """Return 1."""\n\n    return (\n1)  # one\n'


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files of the project in an empty folder, besides `PROJECT`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        forget_code()

    write(PROJECT)
    yield write
    forget_code()


def function_of(module, source="def run():\n    return 1\n"):
    """The function `run` of a module, which is not imported."""
    names = {"__name__": module}
    exec(source, names)
    return names["run"]


def digest_of(module="toy.steps.nodes", values=()):
    return code_digest(function_of(module), ["toy"], values)


@pytest.mark.parametrize(
    ("nodes", "files", "edited"),
    [
        ("", {}, "toy/steps/nodes.py"),
        ("", {}, "toy/steps/__init__.py"),
        ("", {}, "toy/steps/pipeline.py"),
        ("", {}, "toy/__init__.py"),
        ("", {}, "toy/settings.py"),
        ("from ..models import sim\n", {}, "toy/models/sim.py"),
        ("from ..models import sim\n", {}, "toy/models/__init__.py"),
        ("from ..models.deep.core import VALUE\n", {}, "toy/models/deep/core.py"),
        ("from ..models.deep.core import VALUE\n", {}, "toy/models/deep/__init__.py"),
        ("import toy.models.deep.core\n", {}, "toy/models/deep/core.py"),
        ("from toy.models.sim import *\n", {}, "toy/models/sim.py"),
        ("try:\n    import toy.models.sim\nexcept ImportError:\n    pass\n", {}, "toy/models/sim.py"),
        ("def f():\n    from toy.models import sim\n", {}, "toy/models/sim.py"),
        ("from ..helpers import f\n", {"toy/helpers.py": "if 1:\n    def f():\n        return 1\n"}, "toy/helpers.py"),
        ("from toy.helpers import *\n", {"toy/helpers.py": "globals()['a'] = 1\n"}, "toy/helpers.py"),
        ("from toy.helpers import T\n", {"toy/helpers.py": "T = {}\nT.update(a=1)\n"}, "toy/helpers.py"),
        ("from toy.models.base import MODELS\n", REGISTRY, "toy/models/sim.py"),
        ("from toy.models.base import Base\n", SUBCLASS, "toy/models/sim.py"),
        (f"{BY_NAME}import_module('toy.models.sim')\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}def f(n):\n    import_module(f'toy.models.{{n}}')\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}def f(n):\n    import_module('toy.models.' + n)\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}def f(n):\n    import_module('toy.models.%s' % n)\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}def f(n):\n    import_module('.' + n, 'toy.models')\n", {}, "toy/models/sim.py"),
        ("from toy import models\n", RELATIVE, "toy/models/sim.py"),
        ("import toy.models, pkgutil\nALL = [*pkgutil.iter_modules(toy.models.__path__)]\n", {}, "toy/models/sim.py"),
        ("MODELS = {'sim': 'toy.models.sim:Sim'}\n", {}, "toy/models/sim.py"),
        ("F = lambda n: open(f'{n}.html')\n", {"toy/steps/page.html": "1"}, "toy/steps/page.html"),
        ("F = lambda n: open(n)\n", {"toy/steps/templates/page": "1"}, "toy/steps/templates/page"),
        ("import toy.models.plain.core\n", {"toy/models/plain/core.py": "VALUE = 1\n"}, "toy/models/plain/core.py"),
        ("import toy.models.plain.core\n", {"toy/models/plain/core.py": "import toy.helpers\n"}, "toy/helpers.py"),
        ("from toy import helper\n", ON_REQUEST, "toy/helpers.py"),
    ],
)  # fmt: skip
def test_an_edit_of_what_a_node_may_run_counts(write, nodes, files, edited):
    write({"toy/steps/nodes.py": nodes + PROJECT["toy/steps/nodes.py"]} | files)
    before = digest_of()
    write({edited: Path(sys.path[0], edited).read_text() + "EDITED = 1\n"})
    assert digest_of() != before


@pytest.mark.parametrize(
    ("nodes", "edited", "text"),
    [
        ("from toy import helpers\n", "toy/helpers.py", SAME_HELPER),
        ("", "toy/helpers.py", "VALUE = 2\n"),
        ("", "toy/steps/other_nodes.py", "VALUE = 2\n"),
        ("from toy.models import sim\n", "toy/models/din.py", "VALUE = 2\n"),
        ("from toy.models import sim\n", "toy/models/__pycache__/sim.pyc", "2"),
        ("from toy.models import sim\n", "toy/models/tests/test_sim.py", "VALUE = 2\n"),
        (FOR_TYPES, "toy/helpers.py", "VALUE = 2\n"),
        ("F = lambda n: open(f'{n}.html')\n", "toy/models/page.html", "2"),
    ],
)  # fmt: skip
def test_an_edit_of_what_it_does_not_run_does_not_count(write, nodes, edited, text):
    write({"toy/steps/nodes.py": nodes + PROJECT["toy/steps/nodes.py"]})
    before = digest_of()
    write({edited: text})
    assert digest_of() == before


def test_what_a_package_gives_on_request_counts_for_those_who_ask_alone(write):
    write({"toy/steps/nodes.py": PROJECT["toy/steps/nodes.py"]} | ON_REQUEST)
    before = digest_of()
    write({"toy/helpers.py": "VALUE = 2\n"})
    assert digest_of() == before


LOADER = f"{BY_NAME}def f(n):\n    import_module(f'toy.models.{{n}}')\n"


def test_of_modules_found_by_name_those_count_that_a_value_names(write):
    write({"toy/steps/nodes.py": LOADER})
    before = {value: digest_of(values=[value, "auto"]) for value in ("sim", "din", "toy.models.sim")}
    assert before["sim"] != before["din"]
    write({"toy/models/sim.py": "VALUE = 2\n"})
    changed = {value for value in before if digest_of(values=[value, "auto"]) != before[value]}
    assert changed == {"sim", "toy.models.sim"}


@pytest.mark.parametrize("value", ["outside.models.mine", "outside.models.mine:Mine", "single", "single:Mine"])
def test_a_value_may_name_a_module_outside_the_project(write, value):
    write({f"outside/{name}.py": "" for name in ("__init__", "models/__init__")})
    write({"outside/models/mine.py": "import outside.deep\n", "outside/deep.py": "", "single.py": ""})
    before, other = digest_of(values=[value]), digest_of(values=["sim"])
    write({"outside/deep.py" if value.startswith("outside") else "single.py": "VALUE = 2\n"})
    assert digest_of(values=[value]) != before
    assert digest_of(values=["sim"]) == other


def test_a_value_may_name_an_entry_point(write):
    points = "[toy.models]\nmine = outside.mine\nyours = outside.yours\n"
    write({"toy-1.dist-info/entry_points.txt": points, "toy-1.dist-info/METADATA": "Name: outside\nVersion: 1\n"})
    write({f"outside/{name}.py": "" for name in ("__init__", "mine", "yours")})
    write({"toy/steps/nodes.py": "registry = Registry('toy.models')\n"})
    assert metadata.entry_points(group="toy.models", name="mine")
    before = {value: digest_of(values=[value]) for value in ("mine", "yours", "sim")}
    write({"outside/mine.py": "VALUE = 2\n"})
    assert {value for value in before if digest_of(values=[value]) != before[value]} == {"mine"}


def test_of_an_installed_package_that_a_value_names_the_version_counts(write, tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    write(
        {"site-packages/outside/__init__.py": "", "site-packages/outside-1.dist-info/RECORD": "outside/__init__.py,,\n"}
    )
    monkeypatch.syspath_prepend(folder)
    digests = []
    for version, text in (("1", ""), ("1", "VALUE = 2\n"), ("2", "")):
        described = f"Metadata-Version: 2.1\nName: outside\nVersion: {version}\n"
        write({"site-packages/outside-1.dist-info/METADATA": described, "site-packages/outside/__init__.py": text})
        digests.append(digest_of(values=["outside.model"]))
    assert digests[0] == digests[1] != digests[2]


def decorated(function, times):
    """A function of the project, wrapped by one of another module."""
    source = "def run(wrapped, times):\n    return wraps(wrapped)(lambda: wrapped() * times)\n"
    names = {"__name__": "toy.helpers", "wraps": functools.wraps}
    exec(source, names)
    return names["run"](function, times)


@pytest.mark.parametrize("edited", ["toy/helpers.py", "toy/steps/nodes.py"])
def test_a_wrapper_counts_with_what_it_wraps(write, edited):
    nodes = function_of("toy.steps.nodes")
    made = {
        "wrapped": lambda: decorated(nodes, 2),
        "cached": lambda: functools.cache(decorated(nodes, 2)),
        "method": lambda: type("Model", (), {"__module__": "toy.helpers", "run": nodes})().run,
    }
    before = {name: code_digest(make(), ["toy"]) for name, make in made.items()}
    assert before["wrapped"] != code_digest(decorated(nodes, 3), ["toy"])
    write({edited: "VALUE = 2\n"})
    for name, make in made.items():
        assert code_digest(make(), ["toy"]) != before[name]


def test_bound_arguments_count(write):
    nodes = function_of("toy.steps.nodes", "def run(a, b=0):\n    return a\n")
    variants = [
        nodes,
        functools.partial(nodes, 1),
        functools.partial(nodes, 2),
        functools.partial(nodes, b=2),
        functools.partial(nodes, {"a": [1, (2,)]}),
        functools.partial(nodes, function_of("toy.helpers")),
    ]
    digests = [code_digest(variant, ["toy"]) for variant in variants]
    assert len({*digests}) == len(variants)
    write({"toy/helpers.py": "VALUE = 2\n"})
    after = [code_digest(variant, ["toy"]) for variant in variants]
    assert [a != b for a, b in zip(digests, after, strict=True)] == [False] * 5 + [True]


def test_a_class_counts_with_its_bases(write):
    write({"toy/steps/nodes.py": "from toy.models.base import Base\nclass Model(Base): ...\n"})
    model = type("Model", (), {"__module__": "toy.steps.nodes"})
    before = code_digest(model, ["toy"])
    write({"toy/models/base.py": "class Base:\n    VALUE = 2\n"})
    assert code_digest(model, ["toy"]) != before


def test_functions_of_one_module_and_of_installed_packages_are_told_apart():
    assert len({code_digest(function, ["kedro_provenance"]) for function in (len, max, code_digest, digest_of)}) == 4
