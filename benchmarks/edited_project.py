"""The project that `benchmarks/edits.py` edits, and the edits."""

# ruff: noqa: E501

from typing import NamedTuple

LIB = "lib"  # packages beside the project's own, which are on sys.path


class Edit(NamedTuple):
    """A change of a file: a text in place of another, or a new content.

    Attributes:
        batch: name of the edits that are tried together, as they change no results, or those of different nodes.
        keeps_time: whether the file keeps its time of change, as by rsync or tar.
    """

    name: str
    file: str
    old: str | None
    new: str
    batch: str = ""
    keeps_time: bool = False


VALUES = {  # of partial functions, before and after an edit
    "number": ("7", "8"),
    "text": ("'a'", "'b'"),
    "bytes": ("b'a'", "b'b'"),
    "tuple": ("(1, (2,))", "(1, (3,))"),
    "dictionary": ("{'a': [1]}", "{'a': [2]}"),
    "set": ("{1, 2}", "{1, 3}"),
    "date": ("date(2026, 1, 1)", "date(2026, 1, 2)"),
    "duration": ("timedelta(1)", "timedelta(2)"),
    "path": ("Path('a')", "Path('b')"),
    "decimal": ("Decimal('1.0')", "Decimal('1.5')"),
    "fraction": ("Fraction(1, 2)", "Fraction(1, 3)"),
    "pattern": ("re.compile('a')", "re.compile('b')"),
    "array": ("numpy.arange(3)", "numpy.arange(4)"),
    "enumeration": ("Size.SMALL", "Size.LARGE"),
    "data class": ("Rule(1)", "Rule(2)"),
    "object": ("Scaler(2)", "Scaler(3)"),
    "method": ("Scaler(2).scale", "Scaler(3).scale"),
    "attribute getter": ("attrgetter('real')", "attrgetter('imag')"),
    "function": ("operator.neg", "operator.pos"),
    "inner partial": ("partial(pow, 2)", "partial(pow, 3)"),
    "closure": ("adder(1)", "adder(2)"),
    "lambda": ("lambda x: x + 1", "lambda x: x + 2"),
    "lambdas": ("[lambda x: x + 3, lambda x: x + 4]", "[lambda x: x + 4, lambda x: x + 3]"),
}
KEYS = {name: name.replace(" ", "_") for name in VALUES}

FUNCTIONS = {  # of nodes that read `total`: body of each
    "plain": "return total + 1",
    "constant": "return total * RATE",
    "helped": "return helpers.double(total)",
    "chained": "return outer(total)",
    "stepped": "return plus(total)",
    "memoized": "return helpers.cached(total)",
    "modelled": "return Model.default().predict(total)",
    "property": "return Model(2).weight + total",
    "static": "return Model.clip(total)",
    "lazy": "from mill.late import late\n    return late(total)",
    "by_name": "return import_module(f'mill.kinds.{KIND}').go(total)",
    "by_text": "return loaded(TABLE['a'])(total)",
    "by_attribute": "return getattr(ways, 'way_' + KIND)(total)",
    "starred": "return starred_function(total)",
    "relative": "return near(total)",
    "tried": "return tried(total)",
    "conditional": "return conditional(total)",
    "computed": "return total + COMPUTED",
    "module_getattr": "return dynamic.thing + total",
    "filled": "return REGISTRY['filled'](total)",
    "registered": "return REGISTRY['registered'](total)",
    "subclassed": "return Kind.known['Own'].go(total)",
    "listed": "return [each.go(total) for each in Listed.__subclasses__()]",
    "metaclassed": "return Meta.known['Made'].go(total)",
    "dispatched": "return dispatch(total)",
    "plugged": "return plugin('mill.plugs', 'p').go(total)",
    "beside": "return beside.price(total)",
    "beside_data": "return beside.rows() + total",
    "spaced": "return spaced.core.go(total)",
    "alone": "return alone.go(total)",
    "templated": "return template() + str(total)",
    "enumerated": "return [size.value for size in Size]",
    "ruled": "return Rule().limit + total",
    "validated": "return Checked().limit + total",
    "patched": "return json.dumps([total, 1])",
    "annotated": "return Shape.area(total)",
    "nested": "def inner():\n        return helpers.deep(total)\n    return inner()",
    "comprehended": "return [helpers.double(x) for x in range(2)]",
    "generated": "return list(helpers.count(total))",
    "unused": "return 0",
    "accessed": "import pandas\n    return int(pandas.DataFrame({'a': [total]}).mill.total())",
    "last": "return REGISTRY['last'](total)",
    "exported": "return exported(total)",
    "documented": "return helpers.documented.__doc__",
    "described": "return Described.model_json_schema()['description']",
    "sized": "return total + SIZED",
}
NODES = "\n\n".join(f"def {name}_node(total):\n    {body}" for name, body in FUNCTIONS.items())
HELD = "\n".join(f"    {KEYS[name]!r}: {before}," for name, (before, _) in VALUES.items())

FILES = {
    "pyproject.toml": """
[tool.kedro]
package_name = "mill"
project_name = "mill"
kedro_init_version = "1.7.0"
""",
    "conf/base/parameters.yml": "rate: 3\nunread: 1\nblock: {a: 1, b: 2}\nkeys: {1: a}\n",
    "conf/base/catalog.yml": """
numbers: {type: json.JSONDataset, filepath: data/01_raw/numbers.json}
days: {type: partitions.PartitionedDataset, path: data/01_raw/days, dataset: json.JSONDataset, filename_suffix: .json}
text: {type: text.TextDataset, filepath: data/01_raw/text.txt}
total: {type: json.JSONDataset, filepath: data/out/total.json}
folder: {type: partitions.PartitionedDataset, path: data/01_raw/folder, dataset: text.TextDataset}
box: {type: pickle.PickleDataset, filepath: data/out/box.pkl}
trained: {type: pickle.PickleDataset, filepath: data/out/trained.pkl}
own: {type: mill.datasets.Own, filepath: data/out/own.json}
indented: {type: json.JSONDataset, filepath: data/out/indented.json, save_args: {indent: 2}}
"{name}_out": {type: json.JSONDataset, filepath: "data/out/{name}.json"}
""",
    "conf/base/logging.yml": "version: 1\n",
    "conf/local/.gitkeep": "",
    "data/01_raw/numbers.json": "[1, 2, 3]",
    "data/01_raw/text.txt": "h\N{LATIN SMALL LETTER E WITH ACUTE}llo",
    "data/01_raw/others.json": "[5]",
    "data/01_raw/days/1.json": "1",
    "data/01_raw/days/2.json": "2",
    "data/01_raw/folder/README.md": "1",
    "data/01_raw/folder/LICENSE": "1",
    "data/01_raw/folder/generation_config.json": "1",
    "extra/x.txt": "1",
    "README.md": "# Mill\n",
    "src/mill/__init__.py": "__version__ = '1'\n",
    "src/mill/README.md": "# Mill\n",
    "src/mill/settings.py": """
import mill.patches
from kedro_provenance.plugin import AtomicCatalog, ProvenanceHooks, ResumingSession
from mill.hooks import Doubling, Timing

DATA_CATALOG_CLASS = AtomicCatalog
SESSION_CLASS = ResumingSession
HOOKS = (ProvenanceHooks(), Doubling(1), Timing())
""",
    "src/mill/patches.py": "import json\nencode = json.JSONEncoder.default\njson.JSONEncoder.item_separator = ', '\n",
    "src/mill/hooks.py": """
from kedro.framework.hooks import hook_impl


class Doubling:
    def __init__(self, factor):
        self.factor = factor

    @hook_impl
    def before_node_run(self, node, inputs):
        return {name: value * self.factor for name, value in inputs.items() if name == "total"}


class Timing:
    @hook_impl
    def after_pipeline_run(self, run_params):
        print("over")
""",
    "src/mill/pipeline_registry.py": """
from mill.pipelines import held, plain
from kedro.pipeline import Pipeline


def register_pipelines():
    return {"__default__": plain.create_pipeline() + held.create_pipeline()}
""",
    "src/mill/pipelines/__init__.py": "",
    "src/mill/pipelines/plain/__init__.py": "from .pipeline import create_pipeline\n",
    "src/mill/pipelines/plain/near.py": "def near(x):\n    return x + 1\n",
    "src/mill/pipelines/plain/nodes.py": f"""
import json
from importlib import import_module
from types import SimpleNamespace

import alone
import beside
import spaced.core
from kedro_provenance.plugin import depends

from mill import dynamic, helpers, ways
from mill.helpers import Model, outer, plus
from mill.kinds.registry import REGISTRY, Kind, Listed, Meta, dispatch
from mill.loading import loaded, plugin, template
from mill.starred import *
from mill.exports import *
from mill.others import *
from mill.values import Checked, Described, Rule, Shape, Size

from .near import near

if helpers.FAST:
    from mill.late import late as conditional
else:
    from mill.early import early as conditional
try:
    from mill.early import early as tried
except ImportError:
    tried = None

RATE = 2
KIND = "a"
TABLE = {{"a": "mill.kinds.a:go"}}
COMPUTED = helpers.double(4)
LOG = []
SIZED = 1


def sum_numbers(numbers):
    return sum(numbers)


{NODES}


@helpers.scaled
def decorated_node(total):
    return total


def defaulted_node(total, step=helpers.STEP):
    return total + step


def many_node(total, days, text, rate):
    return [total, sum(load() for load in days.values()), text, rate]


def block_node(block):
    return block


def train(numbers):
    from mill.learned import Trained
    return Trained(sum(numbers))


def apply(trained):
    return trained.apply(1)


@depends(files=["extra/*.txt"], env=["MILL"], packages=["kedro"])
def declared_node(total):
    import os
    from pathlib import Path
    return [total, Path("extra/x.txt").read_text(), os.environ.get("MILL")]


def same(total):
    return total


def fill(numbers):
    from mill.learned import Bound, Boxed, Late
    return [SimpleNamespace(inner=Boxed()), *range(2000), Late(), Bound().apply]


def unbox(box):
    return [box[0].inner.apply(1), box[-2].apply(1), box[-1](1)]


def read_folder(folder):
    return [folder[name]() for name in sorted(folder)]


def read_keys(keys):
    return [type(key).__name__ for key in keys]
""",
    "src/mill/pipelines/plain/pipeline.py": """
from kedro.pipeline import Node, Pipeline

from . import nodes

FUNCTIONS = %s


def create_pipeline():
    return Pipeline(
        [
            Node(nodes.sum_numbers, "numbers", "total", name="total"),
            *(Node(getattr(nodes, f"{name}_node"), "total", f"{name}_out", name=name) for name in FUNCTIONS),
            Node(nodes.many_node, ["total", "days", "text", "params:rate"], "many_out", name="many"),
            Node(nodes.block_node, "params:block", "block_out", name="block"),
            Node(nodes.train, "numbers", "trained", name="trained"),
            Node(nodes.apply, "trained", "applied_out", name="applied"),
            Node(nodes.fill, "numbers", "box", name="box"),
            Node(nodes.unbox, "box", "unboxed_out", name="unboxed"),
            Node(nodes.read_folder, "folder", "folder_out", name="folder"),
            Node(nodes.read_keys, "params:keys", "keys_out", name="keys"),
            Node(nodes.same, "total", "own", name="own"),
            Node(nodes.block_node, "params:block", "indented", name="indented"),
            Node(nodes.same, "total", "memory", name="memory"),
            Node(lambda memory: memory + 1, "memory", "from_memory_out", name="from_memory"),
        ]
    )
"""
    % [*FUNCTIONS, "decorated", "defaulted", "declared"],
    "src/mill/pipelines/held/__init__.py": "from .pipeline import create_pipeline\n",
    "src/mill/pipelines/held/nodes.py": """
def held_node(total, value):
    if hasattr(value, "tolist"):
        value = value.tolist()
    elif isinstance(value, list):
        value = [each(total) for each in value]
    return [total, str(sorted(value) if isinstance(value, set) else value(total) if callable(value) else value)]
""",
    "src/mill/pipelines/held/pipeline.py": f"""
import operator
import re
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy
from kedro.pipeline import Node, Pipeline

from mill.pipelines.held.nodes import held_node
from mill.values import Rule, Scaler, Size, adder

VALUES = {{
{HELD}
}}


def create_pipeline():
    return Pipeline(
        [Node(partial(held_node, value=value), "total", f"{{name}}_out", name=name) for name, value in VALUES.items()]
    )
""",
    "src/mill/values.py": """
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel


class Size(Enum):
    SMALL = 1
    LARGE = 2


@dataclass
class Rule:
    limit: int = 1


class Checked(BaseModel):
    limit: int = 1


class Described(BaseModel):
    "A thing."


class Shape:
    def area(self):
        return 5


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def scale(self, x):
        return x * self.factor


def adder(n):
    def add(x):
        return x + n
    return add
""",
    "src/mill/helpers.py": '''
"""Helpers."""

import functools

FAST = True
STEP = 1


def double(x):
    # twice
    return x * 2


def outer(x):
    """Chain."""
    return inner(x)


def inner(x):
    return x + 1


def deep(x):
    return x + 9


def plus(x, step=1):
    return x + step


def count(x):
    yield x
    yield x + 1


@functools.lru_cache
def cached(x):
    return x + 5


def scaled(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments) * 1
    return wrapper


class Base:
    OFFSET = 1

    def score(self, x):
        return x + self.OFFSET


class Model(Base):
    def __init__(self, w=1):
        self.w = w

    def predict(self, x):
        return self.score(x) * self.w

    @property
    def weight(self):
        return self.w + 0

    @classmethod
    def default(cls):
        return cls(1)

    @staticmethod
    def clip(x):
        return min(x, 100)


def documented(x):
    """Read by a node."""


def nobody(x):
    return 1
''',
    "src/mill/late.py": "def late(x):\n    return x + 20\n",
    "src/mill/early.py": "def early(x):\n    return x + 30\n",
    "src/mill/starred.py": "def starred_function(x):\n    return x + 40\n",
    "src/mill/dynamic.py": "THING = 50\n\ndef __getattr__(name):\n    return THING\n",
    "src/mill/ways.py": "def way_a(x):\n    return x + 60\n\ndef way_b(x):\n    return x + 61\n",
    "src/mill/learned.py": """
class Trained:
    def __init__(self, w):
        self.w = w

    def apply(self, x):
        return x + 70


class Boxed:
    def apply(self, x):
        return x + 71


class Late:
    def apply(self, x):
        return x + 72


class Bound:
    def apply(self, x):
        return x + 73
""",
    "src/mill/exports.py": "__all__ = ['exported']\n\ndef exported(x):\n    return x + 140\n",
    "src/mill/others.py": "__all__ = ['exported']\n\ndef exported(x):\n    return x + 150\n",
    "src/mill/frames.py": """
import pandas


@pandas.api.extensions.register_dataframe_accessor("mill")
class Frame:
    def __init__(self, frame):
        self.frame = frame

    def total(self):
        return self.frame["a"].sum() + 160
""",
    "src/mill/loading.py": """
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path


def loaded(path):
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def plugin(group, name):
    [point] = entry_points(group=group, name=name)
    return point.load()


def template():
    return (Path(__file__).parent / "templates/t.txt").read_text()
""",
    "src/mill/templates/t.txt": "total: ",
    "src/mill/datasets.py": """
from kedro_datasets.json import JSONDataset


class Own(JSONDataset):
    def save(self, data):
        super().save(data + 1)
""",
    "src/mill/kinds/__init__.py": "",
    "src/mill/kinds/a.py": "def go(x):\n    return x + 80\n",
    "src/mill/kinds/first.py": "from mill.kinds.registry import REGISTRY\nREGISTRY['last'] = lambda x: x + 170\n",
    "src/mill/kinds/second.py": "from mill.kinds.registry import REGISTRY\nREGISTRY['last'] = lambda x: x + 180\n",
    "src/mill/kinds/b.py": "def go(x):\n    return x + 81\n",
    "src/mill/kinds/registry.py": """
from functools import singledispatch

REGISTRY = {}


def register(function):
    REGISTRY[function.__name__] = function
    return function


class Kind:
    known = {}

    def __init_subclass__(cls):
        Kind.known[cls.__name__] = cls()


class Listed:
    pass


class Meta(type):
    known = {}

    def __init__(cls, name, bases, body):
        super().__init__(name, bases, body)
        Meta.known[name] = cls()


@singledispatch
def dispatch(x):
    return 0
""",
    "src/mill/pipelines/plain/members.py": """
from mill.kinds.registry import REGISTRY, Kind, Listed, Meta, dispatch, register

REGISTRY["filled"] = lambda x: x + 90


@register
def registered(x):
    return x + 91


class Own(Kind):
    def go(self, x):
        return x + 92


class Found(Listed):
    @staticmethod
    def go(x):
        return x + 93


class Made(metaclass=Meta):
    def go(self, x):
        return x + 94


@dispatch.register
def _(x: int):
    return x + 95
""",
    "lib/beside/__init__.py": """
from pathlib import Path


def price(x):
    return x + 100


def rows():
    return int((Path(__file__).parent / "rows.txt").read_text())
""",
    "lib/beside/rows.txt": "5",
    "lib/spaced/core.py": "def go(x):\n    return x + 110\n",
    "lib/alone.py": "def go(x):\n    return x + 120\n",
    "lib/plug/__init__.py": "def go(x):\n    return x + 130\n",
    "lib/plug-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: plug\nVersion: 1\n",
    "lib/plug-1.dist-info/entry_points.txt": "[mill.plugs]\np = plug\n",
}
FILES["src/mill/pipelines/plain/pipeline.py"] = FILES["src/mill/pipelines/plain/pipeline.py"].replace(
    "from . import nodes\n",
    "import mill.kinds.first\nimport mill.kinds.second\nimport mill.frames\n"
    "from . import members, nodes  # members add themselves to registries\n",
)

SRC, PLAIN, HELPERS = "src/mill", "src/mill/pipelines/plain/nodes.py", "src/mill/helpers.py"
MEMBERS, PIPELINE = "src/mill/pipelines/plain/members.py", "src/mill/pipelines/plain/pipeline.py"
CODE_EDITS = [
    *(
        Edit(f"{name} in a partial", "src/mill/pipelines/held/pipeline.py", f": {old},", f": {new},", "values")
        for name, (old, new) in VALUES.items()
    ),
    Edit("a node's function", PLAIN, "return total + 1\n", "return total + 2\n", "first"),
    Edit("a constant of its module", PLAIN, "RATE = 2", "RATE = 4", "first"),
    Edit("a helper", HELPERS, "return x * 2", "return x * 3", "first"),
    Edit("a helper's helper", HELPERS, "def inner(x):\n    return x + 1", "def inner(x):\n    return x + 2", "first"),
    Edit("a helper of an inner function", HELPERS, "x + 9", "x + 8", "first"),
    Edit("a helper's default", HELPERS, "step=1", "step=2", "first"),
    Edit("a constant in a default", HELPERS, "STEP = 1", "STEP = 2", "first"),
    Edit("a generator", HELPERS, "yield x + 1", "yield x + 2", "first"),
    Edit("a cached function", HELPERS, "x + 5", "x + 6", "first"),
    Edit("a decorator", HELPERS, "(*arguments) * 1", "(*arguments) * 2", "first"),
    Edit("a method", HELPERS, "self.score(x) * self.w", "self.score(x) * self.w + 1", "a method"),
    Edit("a method of a base class", HELPERS, "x + self.OFFSET", "x - self.OFFSET", "a method of a base class"),
    Edit("a class attribute", HELPERS, "OFFSET = 1", "OFFSET = 3", "a class attribute"),
    Edit("a class method", HELPERS, "return cls(1)", "return cls(4)", "a class method"),
    Edit("a property", HELPERS, "self.w + 0", "self.w + 1", "a property"),
    Edit("a static method", HELPERS, "min(x, 100)", "min(x, 3)", "a static method"),
    Edit("a function that is imported late", f"{SRC}/late.py", "20", "21", "first"),
    Edit("a condition of an import", HELPERS, "FAST = True", "FAST = False", "second"),
    Edit("an import in a try", f"{SRC}/early.py", "30", "31", "an import in a try"),
    Edit("a star import", f"{SRC}/starred.py", "40", "41", "first"),
    Edit("a relative import", f"{SRC}/pipelines/plain/near.py", "x + 1", "x + 2", "first"),
    Edit("a module's __getattr__", f"{SRC}/dynamic.py", "THING = 50", "THING = 51", "first"),
    Edit("a function by getattr", f"{SRC}/ways.py", "x + 60", "x + 66", "first"),
    Edit("a module by name", f"{SRC}/kinds/a.py", "80", "88", "first"),
    Edit("the name of a module", PLAIN, 'KIND = "a"', 'KIND = "b"', "second"),
    Edit("a text that names a function", PLAIN, "mill.kinds.a:go", "mill.kinds.b:go", "second"),
    Edit("an entry of a registry", MEMBERS, "x + 90", "x + 900", "an entry of a registry"),
    Edit("a registered function", MEMBERS, "x + 91", "x + 901", "a registered function"),
    Edit("a subclass that is noted", MEMBERS, "x + 92", "x + 902", "a subclass that is noted"),
    Edit("a subclass that is listed", MEMBERS, "x + 93", "x + 903", "a subclass that is listed"),
    Edit("a class of a metaclass", MEMBERS, "x + 94", "x + 904", "a class of a metaclass"),
    Edit("a dispatched function", MEMBERS, "x + 95", "x + 905", "a dispatched function"),
    Edit("a plug-in of one's own registry", "lib/plug/__init__.py", "130", "131", "first"),
    Edit("a package beside the project", "lib/beside/__init__.py", "100", "101", "first"),
    Edit("data of a package beside", "lib/beside/rows.txt", "5", "6", "first"),
    Edit("a namespace package beside", "lib/spaced/core.py", "110", "111", "first"),
    Edit("a module beside", "lib/alone.py", "120", "121", "first"),
    Edit("a template", f"{SRC}/templates/t.txt", "total", "sum", "a template"),
    Edit("a member of an enumeration", f"{SRC}/values.py", "LARGE = 2", "LARGE = 3", "a member of an enumeration"),
    Edit("a default of a data class", f"{SRC}/values.py", "class Rule:\n    limit: int = 1", "class Rule:\n    limit: int = 2", "a default of a data class"),
    Edit("a default of a model", f"{SRC}/values.py", "(BaseModel):\n    limit: int = 1", "(BaseModel):\n    limit: int = 2", "first"),
    Edit("a class among the data", f"{SRC}/learned.py", "x + 70", "x + 71", "a class among the data"),
    Edit("a hook", f"{SRC}/hooks.py", "value * self", "value + self", "hook"),
    Edit("an argument of a hook", f"{SRC}/settings.py", "Doubling(1)", "Doubling(2)", "hook argument"),
    Edit("a patch that settings import", f"{SRC}/patches.py", "', '", "',  '", "patch"),
    Edit("a dataset's class", f"{SRC}/datasets.py", "data + 1", "data + 2", "first"),
    Edit("a declared file", "extra/x.txt", "1", "2", "first"),
    Edit("a declared environment variable", "environment.json", None, '{"MILL": "1"}', "second"),
    Edit("a function of another node", PIPELINE, 'nodes.same, "total", "own"', 'nodes.plain_node, "total", "own"', "second"),
    Edit("a lambda of a node", PIPELINE, "memory + 1", "memory + 2", "first"),
    Edit("an accessor of a library", f"{SRC}/frames.py", "160", "161", "first"),
    Edit("the order of imports that register", PIPELINE, "import mill.kinds.first\nimport mill.kinds.second\n", "import mill.kinds.second\nimport mill.kinds.first\n", "order"),
    Edit("the names of a star import", f"{SRC}/others.py", "['exported']", "[]", "first"),
    Edit("the order of star imports", PLAIN, "from mill.exports import *\nfrom mill.others import *\n", "from mill.others import *\nfrom mill.exports import *\n", "second"),
    Edit("a docstring that is read", HELPERS, "Read by a node.", "Read by one node.", "first"),
    Edit("a docstring in a schema", f"{SRC}/values.py", "A thing.", "Another thing.", "second"),
    Edit("an edit of the same size and time", PLAIN, "SIZED = 1", "SIZED = 2", "time", keeps_time=True),
    Edit("a class in an object of a library", f"{SRC}/learned.py", "x + 71", "x + 710", "boxed"),
    Edit("a class behind many objects", f"{SRC}/learned.py", "x + 72", "x + 720", "late"),
    Edit("a bound method among the data", f"{SRC}/learned.py", "x + 73", "x + 730", "bound"),
    Edit("inputs in another order", PIPELINE, '["total", "days", "text", "params:rate"]', '["total", "days", "params:rate", "text"]', "first"),
]  # fmt: skip
PROJECT_EDITS = [
    Edit("a parameter", "conf/base/parameters.yml", "rate: 3", "rate: 4", "parameters"),
    Edit("a parameter of an environment", "conf/local/parameters.yml", None, "rate: 5\n", "environment"),
    Edit("a value in a block", "conf/base/parameters.yml", "a: 1", "a: 3", "parameters"),
    Edit("a new key in a block", "conf/base/parameters.yml", "b: 2", "b: 2, c: 3", "texts"),
    Edit("an unread parameter", "conf/base/parameters.yml", "unread: 1", "unread: 2", "neutral"),
    Edit("a new parameter", "conf/base/parameters.yml", "block:", "other: 1\nblock:", "neutral"),
    Edit("the order of parameters", "conf/base/parameters.yml", "{a: 1, b: 2}", "{b: 2, a: 1}", "neutral too"),
    Edit("a comment on a parameter", "conf/base/parameters.yml", "rate: 3", "rate: 3  # percent", "neutral"),
    Edit("a raw file", "data/01_raw/numbers.json", "3", "4", "raw"),
    Edit("the order of a raw file", "data/01_raw/numbers.json", "[1, 2, 3]", "[3, 2, 1]", "order"),
    Edit("a raw text", "data/01_raw/text.txt", "llo", "y", "texts"),
    Edit("a raw file written anew", "data/01_raw/text.txt", None, FILES["data/01_raw/text.txt"], "neutral"),
    Edit("a partition", "data/01_raw/days/2.json", "2", "3", "partition"),
    Edit("another partition", "data/01_raw/days/3.json", None, "3", "another partition"),
    Edit("a README among raw files", "data/01_raw/folder/README.md", "1", "2", "raw"),
    Edit("a licence among raw files", "data/01_raw/folder/LICENSE", "1", "2", "licence"),
    Edit("settings among raw files", "data/01_raw/folder/generation_config.json", "1", "2", "settings"),
    Edit("the type of a key", "conf/base/parameters.yml", "{1: a}", "{'1': a}", "parameters"),
    Edit("another file beside partitions", "data/01_raw/other.txt", None, "3", "neutral"),
    Edit("a result by hand", "data/out/plain.json", "7", "8", "by hand"),
    Edit("a result between nodes by hand", "data/out/total.json", "6", "9", "by hand"),
    Edit("a save argument", "conf/base/catalog.yml", "indent: 2", "indent: 4", "saving"),
    Edit("a load argument", "conf/base/catalog.yml", "text.txt}", "text.txt, fs_args: {open_args_load: {encoding: latin-1}}}", "loading"),
    Edit("another raw file", "conf/base/catalog.yml", "01_raw/numbers.json", "01_raw/others.json", "other raw"),
    Edit("metadata of an entry", "conf/base/catalog.yml", "text.txt}", "text.txt, metadata: {owner: me}}", "neutral"),
    Edit("a comment in the catalog", "conf/base/catalog.yml", "numbers:", "# raw\nnumbers:", "neutral"),
    Edit("an unread entry", "conf/base/catalog.yml", "numbers:", "other: {type: MemoryDataset}\nnumbers:", "neutral"),
    Edit("an entry for data in memory", "conf/base/catalog.yml", "numbers:", "memory: {type: MemoryDataset}\nnumbers:", "neutral"),
    Edit("a README of the project", "README.md", "Mill", "The mill", "neutral"),
    Edit("a README of the package", f"{SRC}/README.md", "Mill", "The mill", "neutral"),
    Edit("a version in __init__", f"{SRC}/__init__.py", "'1'", "'2'", "neutral"),
    Edit("a line in __init__", f"{SRC}/__init__.py", "__version__", "AUTHOR = 'me'\n__version__", "neutral"),
    Edit("CONF_SOURCE", f"{SRC}/settings.py", "HOOKS =", 'CONF_SOURCE = "conf"\nHOOKS =', "neutral"),
    Edit("a comment in settings", f"{SRC}/settings.py", "HOOKS =", "# hooks\nHOOKS =", "neutral"),
    Edit("a hook that changes nothing", f"{SRC}/hooks.py", "over", "end", "neutral"),
    Edit("a comment", HELPERS, "# twice", "# two times", "neutral"),
    Edit("a docstring", HELPERS, '"""Chain."""', '"""Chain of two."""', "neutral"),
    Edit("a docstring of a module", HELPERS, '"""Helpers."""', '"""All helpers."""', "neutral"),
    Edit("layout", HELPERS, "return x * 2", "return (\n        x * 2\n    )", "neutral"),
    Edit("an unused function", HELPERS, "return 1\n", "return 2\n", "neutral"),
    Edit("a new function", HELPERS, "def nobody", "def somebody():\n    return 1\n\n\ndef nobody", "neutral"),
    Edit("a new constant", HELPERS, "STEP = 1", "STEP = 1\nMORE = 2", "neutral"),
    Edit("a removed function", HELPERS, "\n\ndef nobody(x):\n    return 1\n", "\n", "neutral too"),
    Edit("a new import", HELPERS, "import functools", "import functools\nimport json", "neutral"),
    Edit("a sorted import", PLAIN, "from mill.helpers import Model, outer, plus", "from mill.helpers import outer, plus, Model", "neutral"),
    Edit("imports for types", PLAIN, "RATE = 2", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mill.kinds import b\nRATE = 2", "neutral"),
    Edit("a logger", HELPERS, "import functools\n", "import functools\nimport logging\n\nlogger = logging.getLogger(__name__)\n", "neutral"),
    Edit("functions in another order", HELPERS, "def inner(x):\n    return x + 1\n\n\ndef deep(x):\n    return x + 9\n", "def deep(x):\n    return x + 9\n\n\ndef inner(x):\n    return x + 1\n", "neutral"),
    Edit("another module", f"{SRC}/other.py", None, "VALUE = 1\n", "neutral"),
    Edit("another module in a package found by name", f"{SRC}/kinds/c.py", None, "def go(x):\n    return 1\n", "neutral"),
    Edit("an unnamed module of that package", f"{SRC}/kinds/b.py", "81", "82", "neutral"),
    Edit("an unread function of a module beside", "lib/alone.py", "def go", "def stop():\n    return 1\n\n\ndef go", "neutral"),
    Edit("another module beside", "lib/other.py", None, "VALUE = 1\n", "neutral"),
    Edit("a test in the package", f"{SRC}/tests/test_mill.py", None, "def test_mill(): ...\n", "neutral"),
    Edit("a compiled file", f"{SRC}/__pycache__/other.pyc", None, "1", "neutral"),
    Edit("a new node", PIPELINE, 'Node(nodes.same, "total", "own", name="own"),', 'Node(nodes.same, "total", "own", name="own"), Node(nodes.same, "total", "new_out", name="new"),', "nodes"),
    Edit("a renamed node", PIPELINE, 'name="own"', 'name="my_own"', "neutral too"),
    Edit("a tagged node", PIPELINE, 'name="own"', 'name="own", tags=["mine"]', "tagged"),
    Edit("a removed node", PIPELINE, 'Node(nodes.same, "total", "own", name="own"),', "", "removed"),
    Edit("nodes in another order", PIPELINE, 'Node(nodes.same, "total", "own", name="own"),\n            Node(nodes.block_node, "params:block", "indented", name="indented"),', 'Node(nodes.block_node, "params:block", "indented", name="indented"),\n            Node(nodes.same, "total", "own", name="own"),', "ordered"),
    Edit("a renamed output", PIPELINE, '"applied_out", name="applied"', '"used_out", name="used"', "nodes"),
    Edit("a renamed lambda's argument", PIPELINE, "lambda memory: memory + 1", "lambda m: m + 1", "lambda"),
    Edit("a new pipeline", f"{SRC}/pipeline_registry.py", '{"__default__":', '{"empty": Pipeline([]), "__default__":', "neutral"),
    Edit("logging", "conf/base/logging.yml", "version: 1", "version: 1\ndisable_existing_loggers: false", "neutral"),
    Edit("an environment variable that nothing reads", "environment.json", None, '{"OTHER": "1"}', "neutral"),
    Edit("an undeclared file", "extra/y.md", None, "1", "neutral"),
    Edit("the lock file of the project", "requirements.lock", None, "kedro==1.7.0\n", "neutral"),
]  # fmt: skip
