"""A small synthetic log."""

from parity_log import log
