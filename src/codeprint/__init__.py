"""Fingerprints of the code that a function runs, for any Python project."""

from codeprint.declared import depends
from codeprint.fingerprints import Fingerprint, diff, fingerprint
from codeprint.memory import forget

__all__ = ["Fingerprint", "depends", "diff", "fingerprint", "forget"]
