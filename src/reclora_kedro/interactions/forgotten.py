"""Users who were forgotten: salted digests of their ids, by which their rows are dropped where these come in again."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import polars as pl


@dataclass(frozen=True)
class ForgottenUsers:
    """Whom tables may not hold again.

    Attributes:
        salt: hexadecimal; another one in every project, so that digests tell nothing to who has a table of common ids.
        digests: of the ids.
    """

    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    digests: frozenset[str] = frozenset()

    def __contains__(self, user_id: Any) -> bool:
        return bool(self.digests) and self._digest(user_id) in self.digests

    def among(self, ids: pl.Series) -> pl.Series:
        """Those of some ids that were forgotten, each once."""
        distinct = ids.drop_nulls().unique() if self.digests else ids.clear()
        return pl.Series(ids.name, [each for each in distinct if each in self], ids.dtype)

    def with_users(self, ids: Iterable[Any]) -> Self:
        """The same with further users."""
        return replace(self, digests=self.digests | set(map(self._digest, ids)))

    def without_users(self, ids: Iterable[Any]) -> Self:
        """The same without some users, who may come in again.

        Raises:
            ValueError: one is not among them.
        """
        gone = {self._digest(each): place for place, each in enumerate(ids)}
        if unknown := sorted(gone[each] for each in gone.keys() - self.digests):
            raise ValueError(
                f"forget.users[{unknown[0]}] is none of the {len(self.digests)} ids that were forgotten, or is let in "
                "already: correct the id."
            )
        return replace(self, digests=self.digests - gone.keys())

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {"salt": self.salt, "digests": sorted(self.digests)}

    @classmethod
    def from_table(cls, rows: pl.DataFrame | None) -> Self:
        """Return the users of a table with the columns salt, which is the same in all rows, and digest."""
        return cls() if rows is None or rows.is_empty() else cls(rows["salt"][0], frozenset(rows["digest"]))

    def _digest(self, user_id: Any) -> str:
        return hashlib.blake2b(str(user_id).encode(), key=bytes.fromhex(self.salt), digest_size=16).hexdigest()


NOBODY = ForgottenUsers()
