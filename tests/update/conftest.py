from parity_log import _one_thread, config, fit, log
