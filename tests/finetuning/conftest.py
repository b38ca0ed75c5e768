from parity_log import log

__all__ = ["log"]
