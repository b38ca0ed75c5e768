from parity_log import _one_thread, config, fit, fitted, log

__all__ = ["_one_thread", "config", "fit", "fitted", "log"]
