"""A process that journals events one after another, as fast as it can, and prints each once it is acknowledged.

python journal_writer.py FOLDER FIRST
"""

import itertools
import sys
from pathlib import Path

from reclora_kedro.serving.journal import Event, Journal

if __name__ == "__main__":
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    journal = Journal(folder, lambda change: None)
    waiting = []
    for number in itertools.count(first):
        waiting.append((number, journal.add([Event(str(number), "7", "50", 4.0, number + 1)])))
        if len(waiting) == 8:  # some are on their way when it dies
            acknowledged, future = waiting.pop(0)
            future.result()
            print(acknowledged, flush=True)
