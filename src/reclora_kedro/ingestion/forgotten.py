"""Forgotten users: salted digests of their ids, by which their rows are dropped when they come in again."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import polars as pl

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.ingestion.ids import id_text


@dataclass(frozen=True)
class ForgottenUsers:
    """Users whose rows tables may not hold again.

    The hexadecimal salt is the project's own, so that a table of common ids does not reveal users by their digests.
    """

    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    digests: frozenset[str] = frozenset()

    def __contains__(self, user_id: Any) -> bool:
        return bool(self.digests) and self._digest(user_id) in self.digests

    def among(self, ids: pl.Series) -> pl.Series:
        distinct = ids.drop_nulls().unique() if self.digests else ids.clear()
        return pl.Series(ids.name, [each for each in distinct if each in self], ids.dtype)

    def with_users(self, ids: Iterable[Any]) -> Self:
        return replace(self, digests=self.digests | set(map(self._digest, ids)))

    def without_users(self, ids: Iterable[Any]) -> Self:
        """Return a copy without some users; raise ValueError for a user who is not forgotten."""
        removed = {self._digest(each): place for place, each in enumerate(ids)}
        if unknown := sorted(removed[each] for each in removed.keys() - self.digests):
            found = f"is not among the {len(self.digests)} forgotten ids, or was readmitted already"
            raise Fault(Parameter(f"forget.users[{unknown[0]}]"), found, advice="Correct the id")
        return replace(self, digests=self.digests - removed.keys())

    def to_json(self) -> dict[str, Any]:
        return {"salt": self.salt, "digests": sorted(self.digests)}

    @classmethod
    def from_table(cls, rows: pl.DataFrame | None) -> "ForgottenUsers":
        """Read a table with the columns salt, equal in all rows, and digest; `NOBODY` without rows."""
        return NOBODY if rows is None or rows.is_empty() else cls(rows["salt"][0], frozenset(rows["digest"]))

    def _digest(self, user_id: Any) -> str:
        return hashlib.blake2b(str(id_text(user_id)).encode(), key=bytes.fromhex(self.salt), digest_size=16).hexdigest()


NOBODY = ForgottenUsers()
