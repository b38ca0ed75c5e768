"""Directives of the reference: parameters, catalog entries and pipelines, from what defines them."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

from parameter_types import ROOT, type_of
from reclora_kedro.extensions import named_blocks
from yaml_comments import CommentedYaml


def marked_up(text: str) -> list[nodes.Node]:
    """Return a text as nodes; between backticks is code."""
    parts = text.split("`")
    return [nodes.literal(text=part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


def code(text: str) -> list[nodes.Node]:
    """Return a text as code."""
    return [nodes.literal(text=text)] if text else []


class Reference(SphinxDirective):
    """Sections with a table each."""

    def section(
        self, title: str, paragraphs: list[list[nodes.Node]], heads: list[str], rows: dict[str, list]
    ) -> nodes.section:
        """Return a section; the rows of its table can be linked to by their names."""
        section = nodes.section("", nodes.title(text=title), ids=[self._id(title)])
        section += [nodes.paragraph("", "", *paragraph) for paragraph in paragraphs]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
        body = nodes.tbody("", *(self._row(cells, ids=[self._id(name)]) for name, cells in rows.items()))
        group += [nodes.thead("", self._row([marked_up(head) for head in heads])), body]
        section += nodes.table("", group, classes=["reference"])
        return section

    def _id(self, name: str) -> str:
        return make_id(self.env, self.state.document, "", name.replace(".", "-"))

    def _row(self, cells: list[list[nodes.Node]], **attributes: list[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells), **attributes)


class YamlFiles(Reference):
    """The keys of YAML files: parameters with their defaults, or catalog entries with their files."""

    required_arguments = 1
    option_spec: ClassVar = {"depth": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        """Return a section for each file that the argument, a glob below the project, matches."""
        return [self._of_file(file) for file in sorted(ROOT.glob(self.arguments[0]))]

    def _of_file(self, file: Path) -> nodes.section:
        self.env.note_dependency(str(file))
        written = CommentedYaml(file)
        title = file.stem.partition("_")[2].replace("_", " ").capitalize() or "General"
        header = [marked_up(part) for part in written.header().split("\n\n") if part]
        if self.options.get("depth") == 1:
            heads, rows = ["entry", "file", "content"], dict(self._of_entries(written))
        else:
            heads, rows = ["parameter", "type", "default", "meaning"], dict(self._of_parameters(written))
        return self.section(title, [*header, code(str(file.relative_to(ROOT)))], heads, rows)

    def _of_entries(self, written: CommentedYaml) -> Iterator[tuple[str, list]]:
        for key in written.keys(1):
            if (file := _file_of(written.content[key.path])) or key.comment:
                yield key.path, [code(key.path), code(file), marked_up(key.comment)]

    def _of_parameters(self, written: CommentedYaml) -> Iterator[tuple[str, list]]:
        places = written.places()
        for key in written.keys(99):
            first, _, rest = key.path.partition(".")
            place = f"{places.get(first, first)}.{rest}".rstrip(".")
            if key.value or key.comment:
                kind = type_of(place) if key.value else ""
                shown = _generic(place) if first in places else place
                yield place, [code(shown), marked_up(kind), code(key.value), marked_up(key.comment)]


def _generic(path: str) -> str:
    """Return a path in which the user's own name of an entry is left open."""
    for block in named_blocks():
        if path.startswith(f"{block}."):
            _, _, rest = path.removeprefix(f"{block}.").partition(".")
            return f"{block}.<name>.{rest}" if rest else path
    return path


def _file_of(entry: object) -> str:
    return str(entry.get("filepath", entry.get("path", ""))) if isinstance(entry, dict) else str(entry)


class Pipelines(Reference):
    """The registered pipelines, and the nodes of each."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each pipeline."""
        from kedro.framework.project import pipelines
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        from reclora_kedro.pipelines.registry import PIPELINES

        bootstrap_project(ROOT)
        with KedroSession.create(ROOT) as session:
            session.load_context()
            return [self._of_pipeline(name, PIPELINES.summary(name), pipelines[name]) for name in PIPELINES.modules()]

    def _of_pipeline(self, name, summary, pipeline) -> nodes.section:
        rows = {}
        for node in pipeline.nodes:
            does = (inspect.getdoc(inspect.unwrap(node.func)) or "").partition("\n")[0].replace("``", "`")
            inputs = [entry for entry in node.inputs if not entry.startswith("params:")]
            rows[node.name] = [
                code(node.name),
                marked_up(does),
                marked_up(_named(inputs)),
                marked_up(_named(node.outputs)),
            ]
        return self.section(name, [marked_up(summary)], ["node", "what it does", "reads", "leaves"], rows)


def _named(entries: list[str]) -> str:
    return ", ".join(f"`{entry}`" for entry in entries)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("yaml-files", YamlFiles)
    app.add_directive("pipelines", Pipelines)
    return {"parallel_read_safe": True}
