"""Fingerprints of the code that a function runs, for any Python project."""

from codeprint.fingerprints import Fingerprint, depends, diff, fingerprint
from codeprint.memory import forget

__all__ = ["Fingerprint", "depends", "diff", "fingerprint", "forget"]
