"""The code of a node is all that it may run of the project, and no more."""

import copy
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sized
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from codeprint import depends, fingerprint, forget
from codeprint.__main__ import main

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
RUN = "def run():\n    return "
TRIED = f"try:\n    from toy.models.sim import VALUE\nexcept ImportError:\n    VALUE = 0\n{RUN}VALUE\n"
IN_IF = {"toy/helpers.py": "if C:\n    def f():\n        return 1\n"}
PLAIN = {"toy/models/plain/core.py": "V = 1\n"}
ROWS = {"beside/__init__.py": "def rows():\n    return open(F)\n", "beside/t.csv": "1"}
PATCH = {
    "toy/pipeline_registry.py": "from toy import patch\n",
    "toy/patch.py": "import pandas\npandas.read_csv = 1\n",
}
ANNOTATED = "from toy.helpers import M\ndef run(model: 'M'): ...\n"
REGISTRY = {
    "toy/models/__init__.py": "from . import sim\n",
    "toy/models/sim.py": "from .base import register\n@register\nclass Sim:\n    VALUE = 1\n",
}
FILLED = REGISTRY | {"toy/models/sim.py": "from .base import MODELS\nMODELS['sim'] = 1\n"}
ACCESSOR = {
    "toy/settings.py": "import toy.frames\n",
    "toy/frames.py": "from pandas.api.extensions import register_dataframe_accessor as accessor\n"
    "@accessor('shop')\nclass Shop:\n    A = 1\n",
}
BOTH = {
    "toy/models/__init__.py": "from . import sim, din\n",
    "toy/models/sim.py": "__all__ = ['VALUE']\nfrom .base import MODELS\nMODELS['k'] = 1\nVALUE = 1\n",
    "toy/models/din.py": "from .base import MODELS\nMODELS['k'] = 2\n",
}
IN_CONTEXT = "from toy.models.base import within\n@within()\ndef run():\n    return 1\n"
CONTEXT = "from contextlib import contextmanager\nV = []\n@contextmanager\ndef within():\n    V.append(1)\n    yield\n"
SWAPPED = ["helpers import *\nfrom toy.models.sim", "models.sim import *\nfrom toy.helpers"]
IN_PIPELINE = FILLED | {"toy/models/__init__.py": "", "toy/pipelines/sim/pipeline.py": "import toy.models.sim\n"}
SUBCLASS = {
    "toy/models/__init__.py": "from toy.models import sim\n",
    "toy/models/base.py": "class Base:\n    def __init_subclass__(cls):\n        KNOWN.append(cls)\n",
    "toy/models/sim.py": "from toy.models.base import Base\nclass Sim(Base):\n    VALUE = 1\n",
}
SUBCLASSES = SUBCLASS | {"toy/models/base.py": "class Base: ...\n"}
META = "class Meta(type):\n    KNOWN = []\n    def __init__(cls, *_):\n        Meta.KNOWN += [cls]\n"
METACLASS = {
    "toy/models/__init__.py": "from toy.models import sim\n",
    "toy/models/base.py": META,
    "toy/models/sim.py": "from toy.models.base import Meta\nclass Sim(metaclass=Meta):\n    VALUE = 1\n",
}
DISPATCH = {
    "toy/helpers.py": "from functools import singledispatch\n@singledispatch\ndef score(model): ...\n",
    "toy/models/sim.py": "from toy.helpers import score\n@score.register\ndef of_number(model: int):\n    return 1\n",
    "toy/pipelines/sim.py": "import toy.models.sim\n",
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
        forget()

    write(PROJECT)
    yield write
    forget()


def function_of(module, source="def run():\n    return 1\n"):
    """The function `run` of a module, which is not imported."""
    names = {"__name__": module}
    exec(source, names)
    return names["run"]


BEGINS = ["toy.settings", "toy.pipeline_registry", "toy.pipelines.*"]


def digest(value, values=()):
    return fingerprint(value, packages=["toy"], values=values, imported=BEGINS).digest


def digest_of(module="toy.steps.nodes", values=()):
    return digest(function_of(module), values)


@pytest.mark.parametrize(
    ("nodes", "files", "edited"),
    [
        (f"{RUN}1\n", {}, "toy/steps/nodes.py"),
        (f"LIMIT = 1\n{RUN}LIMIT\n", {}, "toy/steps/nodes.py"),
        (f"from ..models import sim\n{RUN}sim.VALUE\n", {}, "toy/models/sim.py"),
        (f"from ..models import VALUE\n{RUN}VALUE\n", {}, "toy/models/__init__.py"),
        (f"from ..models.deep.core import VALUE\n{RUN}VALUE\n", {}, "toy/models/deep/core.py"),
        (f"import toy.models.deep.core\n{RUN}toy.models.deep.core.VALUE\n", {}, "toy/models/deep/core.py"),
        (f"from toy.models.sim import *\n{RUN}VALUE\n", {}, "toy/models/sim.py"),
        (f"from toy.models import sim\n{RUN}getattr(sim, NAME)\n", {}, "toy/models/sim.py"),
        (TRIED, {}, "toy/models/sim.py"),
        (f"{RUN}VALUE\n    from toy.models.sim import VALUE\n", {}, "toy/models/sim.py"),
        (f"from ..helpers import f\n{RUN}f\n", IN_IF, "toy/helpers.py"),
        (f"from toy.helpers import *\n{RUN}a\n", {"toy/helpers.py": "globals()['a'] = 1\n"}, "toy/helpers.py"),
        (f"from toy.helpers import T\n{RUN}T\n", {"toy/helpers.py": "T = {}\nT.update(a=1)\n"}, "toy/helpers.py"),
        (f"T = [1]\nT += [3]\n{RUN}T\n", {}, "toy/steps/nodes.py"),
        (f"T = [3]\nT += [1]\n{RUN}T\n", {}, "toy/steps/nodes.py"),
        (f"from toy.helpers import m\n{RUN}m\n", {"toy/helpers.py": "from math import log1p as m\n"}, "toy/helpers.py"),
        (ANNOTATED, {"toy/helpers.py": "class M:\n    A = 1\n"}, "toy/helpers.py"),
        (f"from toy.models.base import MODELS\n{RUN}MODELS\n", REGISTRY, "toy/models/sim.py"),
        (f"from toy.models.base import MODELS\n{RUN}MODELS\n", FILLED, "toy/models/sim.py"),
        (f"from toy.models.base import Base\n{RUN}Base\n", SUBCLASS, "toy/models/sim.py"),
        (f"from toy.models.base import Base\n{RUN}Base.__subclasses__()\n", SUBCLASSES, "toy/models/sim.py"),
        (f"from toy.models.base import Meta\n{RUN}Meta.KNOWN\n", METACLASS, "toy/models/sim.py"),
        (f"from toy.helpers import score\n{RUN}score(0)\n", DISPATCH, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module('toy.models.sim')\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module(f'toy.models.{{N}}')\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module('toy.models.' + N)\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module('toy.models.%s' % N)\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module('.' + N, 'toy.models')\n", {}, "toy/models/sim.py"),
        (f"{BY_NAME}{RUN}import_module('.' + N, 'beside')\n", {"beside/core.py": "V = 1\n"}, "beside/core.py"),
        (f"from toy import models\n{RUN}models.f\n", RELATIVE, "toy/models/sim.py"),
        (f"import toy.models, pkgutil\n{RUN}pkgutil.iter_modules(toy.models.__path__)\n", {}, "toy/models/sim.py"),
        (f"MODELS = {{'sim': 'toy.models.sim:VALUE'}}\n{RUN}MODELS\n", {}, "toy/models/sim.py"),
        (f"{RUN}open(f'{{N}}.html')\n", {"toy/steps/page.html": "1"}, "toy/steps/page.html"),
        (f"{RUN}open(NAME)\n", {"toy/steps/templates/page": "1"}, "toy/steps/templates/page"),
        (f"import toy.models.plain.core as c\n{RUN}c.V\n", PLAIN, "toy/models/plain/core.py"),
        (f"import beside as b\n{RUN}b.VALUE\n", {"beside.py": "VALUE = 1\n"}, "beside.py"),
        (f"from beside.core import VALUE\n{RUN}VALUE\n", {"beside/core.py": "VALUE = 1\n"}, "beside/core.py"),
        (f"from beside import rows\n{RUN}rows()\n", ROWS, "beside/t.csv"),
        (f"{RUN}2\n", {"toy/settings.py": "import pandas\npandas.set_option('a', 1)\n"}, "toy/settings.py"),
        (f"from toy import helper\n{RUN}helper()\n", ON_REQUEST, "toy/helpers.py"),
        (f"{RUN}2\n", PATCH, "toy/patch.py"),
        (f"{RUN}frame.shop.total()\n", ACCESSOR, "toy/frames.py"),
        (f"{RUN}other\n", {"toy/settings.py": "import lib\n@lib.register\nclass Own:\n    A = 1\n"}, "toy/settings.py"),
        ("class Said:\n    'Number 1.'\ndef run():\n    return Said.__doc__\n", {}, "toy/steps/nodes.py"),
        (f"from toy import helpers\n{RUN}helpers.__doc__\n", {"toy/helpers.py": "'Number 1.'\n"}, "toy/helpers.py"),
        (f"{RUN}open('README.md')\n", {"toy/steps/README.md": "1"}, "toy/steps/README.md"),
        (f"from toy.models.base import MODELS\n{RUN}MODELS\n", IN_PIPELINE, "toy/models/sim.py"),
    ],
)  # fmt: skip
def test_an_edit_of_what_a_node_may_run_counts(write, nodes, files, edited):
    write({"toy/steps/nodes.py": nodes} | files)
    before = digest_of()
    text = Path(sys.path[0], edited).read_text()
    write({edited: text.replace("1", "2")})
    assert digest_of() != before
    write({edited: text})
    assert digest_of() == before


@pytest.mark.parametrize(
    ("nodes", "edited", "text"),
    [
        (f"from toy import helpers\n{RUN}helpers.helper\n", "toy/helpers.py", SAME_HELPER),
        (f"from toy import helpers\n{RUN}helpers.helper\n", "toy/helpers.py", f"{SAME_HELPER}f = 1\n"),
        (f"{RUN}1\n", "toy/steps/nodes.py", f"{RUN}1\ndef other():\n    return run()\n"),
        (f"{RUN}1\n", "toy/steps/nodes.py", f"import json\nlog = json.loads('1')\n{RUN}1\n"),
        (f"{RUN}1\n", "toy/steps/nodes.py", f"import logging\nlogging.basicConfig(level=1)\n{RUN}1\n"),
        (f"{RUN}1\n", "toy/__init__.py", "__version__ = '2'\n"),
        (f"{RUN}1\n", "toy/settings.py", "CONF_SOURCE = 'other'\n"),
        (f"{RUN}1\n", "toy/steps/pipeline.py", "from . import nodes\ndef create_pipeline():\n    return [nodes.run]\n"),
        (f"{RUN}open('a')\n", "toy/steps/README.md", "2"),
        (f"from toy.helpers import *\n{RUN}len('a')\n", "toy/helpers.py", "VALUE = 2\n"),
        (f"M = {{}}\nM['a'] = 1\n{RUN}1\n", "toy/steps/nodes.py", f"M = {{}}\nM['a'] = 2\n{RUN}1\n"),
        (f"{RUN}1\n", "toy/steps/page.html", "2"),
        (f"{RUN}1\n", "toy/pipelines/draft.py", "def draft(:\n"),
        ("", "toy/helpers.py", "VALUE = 2\n"),
        ("", "toy/steps/other_nodes.py", "VALUE = 2\n"),
        (f"from toy.models import sim\n{RUN}sim.VALUE\n", "toy/models/din.py", "VALUE = 2\n"),
        (f"from toy.models import sim\n{RUN}open(sim)\n", "toy/models/__pycache__/sim.pyc", "2"),
        (f"from toy.models import sim\n{RUN}open(sim)\n", "toy/models/tests/test_sim.py", "VALUE = 2\n"),
        (f"{FOR_TYPES}{RUN}toy.helpers.helper\n", "toy/helpers.py", "VALUE = 2\n"),
        (f"{RUN}open(f'{{n}}.html')\n", "toy/models/page.html", "2"),
        (f"{BY_NAME}{RUN}import_module(n), open('conf')\n", "conf/base/parameters.yml", "a: 1"),
        (f"{RUN}open('conf.html.jinja')\n", "conf/base/parameters.yml", "a: 1"),
    ],
)  # fmt: skip
def test_an_edit_of_what_it_does_not_run_does_not_count(write, nodes, edited, text):
    write({"toy/steps/nodes.py": nodes, "pyproject.toml": ""})
    before = digest_of()
    write({edited: text})
    assert digest_of() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T += [3]\n", "T += [3]\nT += [3]\n"),
        ("T += [3]\nT += [4]\n", "T += [4]\nT += [3]\n"),
        ("T.append(3)\n", "T.append(3)\nT.append(3)\n"),
        ("T.append(3)\nT.reverse()\n", "T.reverse()\nT.append(3)\n"),
    ],
)
def test_number_and_order_of_statements_that_change_a_variable_count(write, one, other):
    digests = []
    for statements in (one, other):
        write({"toy/steps/nodes.py": f"T = [1]\n{statements}{RUN}T\n"})
        digests.append(digest_of())
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("nodes", "edited", "old", "new"),
    [
        (
            f"from toy.helpers import *\nfrom toy.models.sim import *\n{RUN}VALUE\n",
            "toy/models/sim.py",
            "['VALUE']",
            "[]",
        ),
        (f"from toy.helpers import *\nfrom toy.models.sim import *\n{RUN}VALUE\n", "toy/steps/nodes.py", *SWAPPED),
        (f"from toy.models.base import MODELS\n{RUN}MODELS\n", "toy/models/__init__.py", "sim, din", "din, sim"),
    ],
)
def test_of_two_sources_of_one_name_the_last_one_counts(write, nodes, edited, old, new):
    write({"toy/steps/nodes.py": nodes, "toy/helpers.py": "VALUE = 3\n"} | BOTH)
    before = digest_of()
    text = Path(sys.path[0], edited).read_text()
    assert old in text
    write({edited: text.replace(old, new)})
    assert digest_of() != before


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (f"import runpy\n{RUN}runpy.run_path('a.py')\n", "run runs code by run_path, which is not followed"),
        ("import sys\ndef run():\n    sys.path.insert(0, 'x')\n    import gone\n", "imports gone, which is not found"),
        ("import sys\nsys.path.insert(0, 'x')\ndef run():\n    import json\n", None),
    ],
)
def test_code_that_cannot_be_followed_is_named_unless_it_is_declared(write, nodes, said):
    write({"toy/steps/nodes.py": nodes})
    uncertain = fingerprint(function_of("toy.steps.nodes")).uncertain
    assert uncertain == () if said is None else uncertain[0].endswith(said)
    assert fingerprint(depends(files=["a.py"])(function_of("toy.steps.nodes"))).uncertain == ()


def test_an_edit_of_the_same_size_and_time_counts(write):
    before = digest_of()
    file = Path(sys.path[0], "toy/steps/nodes.py")
    status = file.stat()
    write({"toy/steps/nodes.py": file.read_text().replace("1", "2")})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_of() != before


FIRST, SECOND = (lambda x: x + 1), (lambda x: x + 2)  # in one line


def test_lambdas_of_one_module_are_told_apart():
    held = [functools.partial(print, [FIRST, SECOND]), functools.partial(print, [SECOND, FIRST]), FIRST, SECOND]
    assert len({digest(each) for each in held}) == 4


PYTHONS = [
    found for name in ("python3.10", "python3.13", "python3.14") if (found := shutil.which(name, path=os.defpath))
]
OF_ALL_KINDS = """
import functools, pathlib, fractions, enum
class Size(enum.Enum):
    SMALL = 1
def outer(x, *, y=(1, -2.5, 3j, b"a", None, ...)):
    '''A docstring.'''
    with open(x) as one, open(f"a{x!r:>{y}}" "b" f"{x=}") as two:
        inner = lambda z: {**z, "k": [*y]}
    match x:
        case {"a": [1, *rest]} if (n := len(rest)): return u"text", 10 ** 20, "\u00e9\U0001fae8"
    return inner
HELD = functools.partial(outer, pathlib.Path("a"), y=[fractions.Fraction(1, 3), Size.SMALL, outer, lambda: 1])
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_the_digest_is_that_of_any_python(tmp_path, python):
    (tmp_path / "kinds.py").write_text(OF_ALL_KINDS)
    text = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parents[2] / 'src')!r}]\n"
    text += "import kinds, codeprint; print(codeprint.fingerprint(kinds.HELD).digest)"
    digests = [
        subprocess.run([each, "-c", text], capture_output=True, check=True).stdout for each in (sys.executable, python)
    ]
    assert digests[0] == digests[1] != b""


HELPER = "def helper():\n    return "


def test_what_has_changed_is_said_in_words_also_by_the_command(write, tmp_path, monkeypatch, capsys):
    write({"told.py": "from helping import helper\ndef run():\n    return helper()\n", "helping.py": f"{HELPER}1\n"})
    monkeypatch.setattr(sys, "argv", ["codeprint", "told:run", "--json"])
    main()
    (tmp_path / "before.json").write_text(capsys.readouterr().out)
    write({"helping.py": f"LIMIT = 2\n{HELPER}LIMIT\n"})
    monkeypatch.setattr(sys, "argv", ["codeprint", "told:run", "--before", str(tmp_path / "before.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (1, "helping.LIMIT is new\nhelping.helper changed\n")
    monkeypatch.setattr(sys, "argv", ["codeprint", "told:ran"])
    with pytest.raises(SystemExit):
        main()
    assert "Expected module:function" in capsys.readouterr().err


def test_a_function_in_a_context_changes_nothing_at_import(write):
    write({"toy/models/base.py": CONTEXT, "toy/settings.py": IN_CONTEXT})
    write({"toy/steps/nodes.py": f"from toy.models.base import V\n{RUN}V\n"})
    before = digest_of()
    write({"toy/settings.py": IN_CONTEXT.replace("1", "2")})
    assert digest_of() == before


def test_what_a_package_gives_on_request_counts_for_those_who_ask_alone(write):
    write(ON_REQUEST)
    before = digest_of()
    write({"toy/helpers.py": "def helper():\n    return 2\n"})
    assert digest_of() == before


LOADER = f"{BY_NAME}def run(n):\n    import_module(f'toy.models.{{n}}')\n"


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
    mine = "from outside.deep import VALUE\nclass Mine:\n    A = VALUE\n"
    write({"outside/models/mine.py": mine, "outside/deep.py": "VALUE = 1\n", "single.py": ""})
    before, other = digest_of(values=[value]), digest_of(values=["sim"])
    write({"outside/deep.py" if value.startswith("outside") else "single.py": "VALUE = 2\n"})
    assert digest_of(values=[value]) != before
    assert digest_of(values=["sim"]) == other


def test_a_value_may_name_an_entry_point(write):
    points = "[toy.models]\nmine = outside.mine\nyours = outside.yours\n"
    write({"toy-1.dist-info/entry_points.txt": points, "toy-1.dist-info/METADATA": "Name: outside\nVersion: 1\n"})
    write({f"outside/{name}.py": "" for name in ("__init__", "mine", "yours")})
    write({"toy/steps/nodes.py": f"registry = Registry('toy.models')\n{RUN}registry\n"})
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
    write({"toy/helpers.py": "def run(wrapped, times): ...\n"})
    nodes = function_of("toy.steps.nodes")
    made = {
        "wrapped": lambda: decorated(nodes, 2),
        "cached": lambda: functools.cache(decorated(nodes, 2)),
        "method": lambda: type("Model", (), {"__module__": "toy.helpers", "run": decorated(nodes, 2)})().run,
    }
    before = {name: digest(make()) for name, make in made.items()}
    assert before["wrapped"] != digest(decorated(nodes, 3))
    write({edited: "def run(*_):\n    return 2\n"})
    for name, make in made.items():
        assert digest(make()) != before[name]


class Size(Enum):
    SMALL = 1
    LARGE = 2


@dataclass
class Rule:
    limits: list


class Scaler:
    def __init__(self, factor):
        self.factor, self.itself = factor, self

    def __call__(self, x):
        return x * self.factor

    def scale(self, x):
        return x * self.factor


PAIRS = {
    "number": (1, 2),
    "nested": ({"a": [1, (2,)]}, {"a": [1, (3,)]}),
    "date": (date(2026, 1, 1), date(2026, 1, 2)),
    "path": (Path("a"), Path("b")),
    "set": ({"a", "b"}, {"a", "c"}),
    "decimal": (Decimal("1.0"), Decimal("1.1")),
    "enum": (Size.SMALL, Size.LARGE),
    "dataclass": (Rule([1]), Rule([2])),
    "array": (np.arange(3), np.arange(4)),
    "table": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    "pattern": (re.compile("a"), re.compile("b")),
    "callable": (Scaler(1), Scaler(2)),
    "method": (Scaler(1).scale, Scaler(2).scale),
    "bytes": (b"1", b"2"),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_values_that_a_function_holds_count_by_their_content(one, other):
    def held(value):
        def default(x, value=value): ...

        return functools.partial(print, value), functools.partial(print, end=value), lambda: value, default

    for first, second, again in zip(held(one), held(other), held(copy.deepcopy(one)), strict=True):
        assert fingerprint(first).digest == fingerprint(again).digest != fingerprint(second).digest
        assert fingerprint(first).uncertain == ()


def test_of_a_function_that_dispatches_by_type_earlier_calls_do_not_count():
    size = functools.singledispatch(print)
    size.register(Sized, len)
    before = digest(size)
    size({})
    Sized.register(Scaler)
    assert digest(size) == before
    size.register(str, len)
    assert digest(size) != before


def test_what_cannot_be_compared_is_named():
    assert fingerprint(functools.partial(print, threading.Lock())).uncertain == (
        "it holds a _thread.lock, which cannot be compared",
    )


def test_digests_are_those_of_any_process(tmp_path):
    text = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'src')!r})\n"
        + """
from functools import partial
from codeprint import fingerprint
from pydantic import validate_call
def checked(x: int = 1): ...
print(fingerprint(partial(print, {"one", "two", "three"}, frozenset({(1, "a"), (2, "b")}))).digest)
print(fingerprint([validate_call(checked)]))
"""
    )
    command = [sys.executable, "-c", text]
    outputs = {
        subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}).stdout for seed in "12"
    }
    assert len(outputs) == 1


def test_of_a_validated_function_the_rest_of_its_module_does_not_count(write):
    module = (
        "from pydantic import validate_call\n@validate_call\ndef checked(x: int):\n    return scale(x)\n"
        "def scale(x):\n    return {}\ndef other(x):\n    return {}\n"
    )

    def digest_after(*bodies):
        write({"toy/checks.py": module.format(*bodies)})
        with patch.dict(sys.modules):  # later tests import nothing of it
            return digest(importlib.import_module("toy.checks").checked)

    before = digest_after("x", "x")
    assert digest_after("x", "-x") == before != digest_after("-x", "x")


def test_without_a_cache_code_is_read_each_time(write, tmp_path, monkeypatch):
    write({"no folder": ""})
    before = digest_of()
    for file in tmp_path.rglob("*.py"):  # long ago, so that what is found would be kept
        os.utime(file, (0, 0))
    forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    assert digest_of() == before


def test_a_class_counts_with_its_bases(write):
    write({"toy/steps/nodes.py": "from toy.models.base import Base\nclass Model(Base): ...\n"})
    model = type("Model", (), {"__module__": "toy.steps.nodes"})
    before = digest(model)
    write({"toy/models/base.py": "class Base:\n    VALUE = 2\n"})
    assert digest(model) != before


def test_functions_of_one_module_and_of_installed_packages_are_told_apart():
    assert len({digest(function) for function in (len, max, fingerprint, digest_of)}) == 4
