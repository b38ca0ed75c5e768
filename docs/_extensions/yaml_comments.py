"""Keys of YAML files with the comments that describe them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

COMMENT = re.compile(r"\s#\s?(.*)$")


class Key(NamedTuple):
    """A key: its path, the text of its value (empty for a block), and its comment."""

    path: str
    value: str
    comment: str


class CommentedYaml:
    """A YAML file whose comments stand above keys or behind them."""

    def __init__(self, file: Path):
        text = file.read_text(encoding="utf-8")
        self.lines = text.splitlines()
        self.root = yaml.compose(text)
        self.content = yaml.safe_load(text) or {}

    def header(self) -> str:
        """Return the comment that the file begins with."""
        end = next((number for number, line in enumerate(self.lines) if not line.startswith("#")), len(self.lines))
        return self._text(range(end))

    def keys(self, depth: int) -> Iterator[Key]:
        """Yield the keys down to a depth, in the order of the file."""
        if self.root is not None:
            yield from self._keys(self.root, depth, "")

    def places(self) -> dict[str, str]:
        """Return the path of the first block that takes over each block of the outermost level, by the latter's key."""
        if self.root is None:
            return {}
        shared, found = {id(value): key.value for key, value in self.root.value}, dict[str, str]()

        def walk(node: yaml.Node, path: str) -> None:
            for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
                inner = path if key.value == "<<" else f"{path}.{key.value}".lstrip(".")
                if id(value) in shared and inner != shared[id(value)]:
                    found.setdefault(shared[id(value)], inner)
                else:
                    walk(value, inner)

        walk(self.root, "")
        return found

    def _keys(self, node: yaml.MappingNode, depth: int, prefix: str) -> Iterator[Key]:
        for key, value in node.value:
            if key.value == "<<":  # what the block has of another one
                continue
            path, line = prefix + key.value, key.start_mark.line
            is_alias = value.start_mark.index < key.start_mark.index
            is_block = isinstance(value, yaml.MappingNode) and not value.flow_style and not is_alias
            ends_here = not is_block and value.end_mark.line == line
            comment = self._comment(line, key.start_mark.column, (value if ends_here else key).end_mark.column)
            yield Key(path, "" if is_block else self._value(line, key.end_mark.column + 1, value), comment)
            if is_block and depth > 1:
                yield from self._keys(value, depth - 1, f"{path}.")

    def _value(self, line: int, column: int, value: yaml.Node) -> str:
        end = value.end_mark.column if value.end_mark.line == line else None
        text = self.lines[line][column:end].strip() if end else COMMENT.sub("", " " + self.lines[line][column:]).strip()
        lines_of_a_list = yaml.safe_load(yaml.serialize(value))
        return text or yaml.safe_dump(lines_of_a_list, default_flow_style=True, width=10_000).strip()

    def _comment(self, line: int, key_column: int, value_end: int) -> str:
        """Return the lines above a key, the end of its own line, and the lines that go on with this one."""
        above, below = line, line + 1
        while self._is_comment(above - 1, key_column):
            above -= 1
        behind = COMMENT.search(self.lines[line], value_end)
        while behind and self._is_comment(below, self.lines[line].index("#", behind.start())):
            below += 1
        if all(text.startswith("#") for text in self.lines[:above]):  # the header
            above = line
        parts = [self._text(range(above, line)), behind[1] if behind else "", self._text(range(line + 1, below))]
        return "\n".join(filter(None, parts))

    def _is_comment(self, line: int, column: int) -> bool:
        return 0 <= line < len(self.lines) and self.lines[line].startswith(" " * column + "#")

    def _text(self, lines: range) -> str:
        return "\n".join(self.lines[line].strip().removeprefix("#").removeprefix(" ") for line in lines)
