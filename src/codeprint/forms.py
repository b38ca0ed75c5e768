"""The form of Python code that digests are made of: one for every version of Python, unlike that of `ast.dump`."""

import ast
from functools import cache
from typing import Any

UNCOUNTED = {"ctx", "kind", "type_comment"}  # fields of syntax trees that say nothing of what the code does


def form(part: ast.AST) -> str:
    """Return code as a text without its layout and comments.

    Fields that are empty are left out, as later versions of Python have more of them. Of composed texts, constants
    next to each other are one. No character depends on what a version of Unicode holds to be printable.

    Examples:
        >>> form(ast.parse("x = (1)  # one")) == form(ast.parse("x=1")) != form(ast.parse("x = '1'"))
        True
        >>> form(ast.parse("f'a' f'{x}' 'b' 'c'")) == form(ast.parse("f'a{x}bc'"))
        True
    """
    words, left = list[str](), list[Any]([part])  # a stack, as code may be nested deeper than Python's own calls
    while left:
        each = left.pop()
        kind: Any = type(each)
        if kind is str:
            words.append(each)
        elif kind is list:
            words.append("[")
            left.append("]")
            left += reversed(each)
        elif kind is ast.Constant:
            # An integer is hexadecimal: Python writes no decimal number of over 4,300 digits.
            text = f"{each.value:x}" if type(each.value) is int else ascii(each.value)
            words.append(f"{type(each.value).__name__}:{text}")
        elif isinstance(each, ast.AST):
            words.append(f"{kind.__name__}(")
            left.append(")")
            for name, label in _fields_of(kind):
                value: Any = getattr(each, name, None)
                if kind is ast.JoinedStr:
                    value = _joined(value)
                if value is not None and value != []:
                    left += (value, label)
        else:
            words.append(ascii(each))
    return " ".join(words)


@cache
def _fields_of(kind: type[ast.AST]) -> list[tuple[str, str]]:
    """Return the fields of a kind of syntax trees that count, the last first, and how the form names them."""
    return [(name, f"{name}=") for name in reversed(kind._fields) if name not in UNCOUNTED]


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of a composed text, in which no constant is empty or follows another one."""
    joined = list[ast.expr]()
    for value in values:
        match joined[-1:], value:
            case _, ast.Constant(value=""):
                continue
            case [ast.Constant(value=str(before))], ast.Constant(value=str(after)):
                joined[-1] = ast.Constant(before + after)
            case _:
                joined.append(value)
    return joined
