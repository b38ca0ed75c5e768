from parity_log import _one_thread, log
