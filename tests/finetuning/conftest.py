from parity_log import log
