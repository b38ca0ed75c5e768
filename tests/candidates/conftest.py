from parity_log import _one_thread, log

__all__ = ["_one_thread", "log"]
