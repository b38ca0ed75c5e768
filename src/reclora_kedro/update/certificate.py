"""The certificate of a forgetting, one file for an auditor: it holds digests and addresses, and no id."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kedro_provenance.archive import ArchivedVersion
from kedro_provenance.files.digests import digest
from reclora_kedro.update.remains import described

NOT_REACHED = (
    "backups, and versions that an object storage keeps of removed objects",
    "exports and copies that left the folders, databases and storages that were searched",
    "caches of other machines",
    "experiment tracking on a server, and weights of earlier models there",
    "raw tables in databases, which are only read",
    "the history of the terminal in which the id was typed",
)
"""What the command cannot look into."""


def describe_erasure(
    before: Sequence[ArchivedVersion], addresses: Sequence[str], in_use: Mapping[str, str]
) -> dict[str, Any]:
    """Return what is removed, and what was made again, with the digests of its contents before and after.

    Args:
        before: all versions, before any is erased.
        addresses: of those that are erased.
        in_use: the versions that the current model names, by entry.
    """
    erased = set(addresses)
    made = [each for each in before if in_use.get(each.entry) == each.version]
    earlier: dict[str, ArchivedVersion] = {}
    for each in sorted(before, key=lambda each: each.version or ""):
        if (each.version or "") < in_use.get(each.entry, ""):
            earlier[each.entry] = each
    return {
        "versions_in_use": dict(in_use),
        "removed": [described(each) for each in before if each.address in erased],
        "made_again": [
            {
                "entry": each.entry,
                "version": each.version,
                "digest_before": earlier[each.entry].content if each.entry in earlier else None,
                "digest_after": each.content,
            }
            for each in made
        ],
    }


def sealed(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a certificate with the digest of all that it says, by which a later change shows."""
    return {**certificate, "digest_of_the_above": digest(dict(certificate))}


def erased_contents(certificates: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the digests of the versions that some certificates say were removed."""
    return {
        each["content"] for certificate in certificates for each in certificate.get("removed", ()) if each["content"]
    }
