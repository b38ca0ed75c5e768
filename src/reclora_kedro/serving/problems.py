"""Problem details of refused requests (RFC 9457)."""

import json
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Any

from fastapi import Response
from fastapi.exceptions import RequestValidationError

from kedro_provenance.errors import quoted_value

PROBLEM_JSON = "application/problem+json"
MOST_COMPARED = 1_000  # ids that an unknown one is compared with
MOST_ERRORS = 10  # that the answer to one request names


class ProblemError(Exception):
    """A request is refused.

    Args:
        kind: kind of problem, the end of the answer's ``type``.
        members: further members of the answer, such as ``found`` and ``expected``.
    """

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
    nearest = get_close_matches(name, islice(_alike(name, names), MOST_COMPARED), cutoff=0.5)
    hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
    detail = f"{kind.capitalize()} {quoted_value(name)} is none of the {len(names)} that are known.{hint}"
    return ProblemError(
        status, f"unknown-{kind}", f"The {kind} is not known", detail, found=name[:200], nearest=nearest
    )


def _alike(spelling: str, names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if name[:1] == spelling[:1] or name[-1:] == spelling[-1:])


def invalid_request(error: RequestValidationError) -> ProblemError:
    """Return the problem of a body or of parameters with an invalid shape."""
    faults = [
        {
            "where": ".".join(str(key) for key in fault["loc"] if not str(key).startswith("(")),
            "found": quoted_value(fault.get("input")),
            "expected": fault["msg"].removeprefix("Value error, "),
        }
        for fault in error.errors()[:MOST_ERRORS]
    ]
    first = faults[0]
    detail = f"{first['where']} is {first['found']}: {first['expected']}."
    return ProblemError(422, "invalid-request", "The request is not of the right shape", detail, errors=faults)
