"""The form of Python code that digests are made of: one for every version of Python, unlike that of `ast.dump`."""

import ast
from collections.abc import Iterator
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
        match each := left.pop():
            case str():
                words.append(each)
            case list():
                left += ["]", *reversed(each), "["]
            case ast.Constant(value=int(value)) if not isinstance(value, bool):
                words.append(f"int:{value:x}")  # Python writes no decimal number of over 4,300 digits
            case ast.Constant(value=value):
                words.append(f"{type(value).__name__}:{value!a}")
            case ast.AST():
                left += [")", *(word for pair in reversed([*_fields(each)]) for word in reversed(pair))]
                words.append(f"{type(each).__name__}(")
            case _:
                words.append(ascii(each))
    return " ".join(words)


def _fields(part: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(part):
        if isinstance(part, ast.JoinedStr) and name == "values":
            value = _joined(value)
        if name not in UNCOUNTED and value is not None and value != []:
            yield f"{name}=", value


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
