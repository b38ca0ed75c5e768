"""A small synthetic log."""

from parity_log import log

__all__ = ["log"]
