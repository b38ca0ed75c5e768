"""Problem details of refused requests (RFC 9457)."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from fastapi import Response
from fastapi.exceptions import RequestValidationError

from kedro_provenance.errors import Fault, Term, Value, quoted_value

PROBLEM_JSON = "application/problem+json"
MOST_COMPARED = 1_000  # ids that an unknown one is compared with
MOST_ERRORS = 10  # that the answer to one request names


class ProblemError(Exception):
    """A request is refused; `kind` ends the answer's ``type``, and `members` are further ones of it, as ``found``."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers
        self.body = {"type": f"urn:reclora:{kind}", "title": title, "status": status, "detail": detail} | members

    def response(self) -> Response:
        text = json.dumps(self.body)  # in ASCII, whatever was found
        return Response(text, self.status, self.headers, PROBLEM_JSON)


def unknown(kind: str, name: str, names: Collection[str], status: int = 404) -> ProblemError:
    alike = (each for each in names if each[:1] == name[:1] or each[-1:] == name[-1:])
    nearest = get_close_matches(name, islice(alike, MOST_COMPARED), cutoff=0.5)
    hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
    detail = f"{kind.capitalize()} {quoted_value(name)} is not among the {len(names)} known ones.{hint}"
    title = f"Unknown {kind}"
    return ProblemError(status, f"unknown-{kind}", title, detail, found=name[:200], nearest=nearest)


@dataclass(frozen=True)
class Member(Term):
    """A member of a request's body by its JSON pointer, or a parameter of an address by its name."""

    name: str

    def __str__(self) -> str:
        return self.name


def faults_of(error: RequestValidationError) -> Iterator[Fault]:
    """Yield the faults of a request that has not the shape of its route."""
    for each in error.errors():
        if each["type"] == "json_invalid":
            found = "is not valid JSON from its character ", Value(each["loc"][-1])
            yield Fault(Member("The body"), found, each["ctx"]["error"])
            continue
        part, *keys = [str(key) for key in each["loc"] if not str(key).startswith("(")]  # of members of unions
        name = "".join(f"/{key}" for key in keys) or "The body" if part == "body" else ".".join(keys) or part
        message = each["ctx"]["error"] if each["type"] == "value_error" else each["msg"]
        if each["type"] == "extra_forbidden":
            message = "the request has no such member; GET /openapi.json lists them"
        yield Fault(Member(name), ("is ", Value(each.get("input"))), str(message))


def invalid_request(*faults: Fault) -> ProblemError:
    """Return the problem of a request with members that are not as expected; the faults end in the found values."""
    errors = [
        {"where": str(fault.subject), "found": str(fault.args[1][-1]), "expected": str(fault.expected)}
        for fault in faults[:MOST_ERRORS]
    ]
    title = "The request is not of the right shape"
    return ProblemError(422, "invalid-request", title, str(faults[0]), errors=errors)
