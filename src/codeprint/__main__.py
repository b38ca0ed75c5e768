"""The command ``codeprint``: the fingerprint of a function, or by what it differs from an earlier one."""

import argparse
import json
import sys
from dataclasses import asdict
from functools import reduce
from importlib import import_module
from pathlib import Path

from codeprint.fingerprints import Fingerprint, diff, fingerprint


def main() -> None:
    """Print the fingerprint of a function; with ``--before``, say what changed, and exit with 1 if anything has."""
    parser = argparse.ArgumentParser(prog="codeprint", description="Fingerprint the code that a function runs.")
    parser.add_argument("function", help="module:function, such as shop.nodes:train")
    parser.add_argument("--before", type=Path, help="file with an earlier output of --json: say what has changed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    sys.path.insert(0, "")
    module, _, names = arguments.function.partition(":")
    try:
        value = reduce(getattr, names.split(".") if names else [], import_module(module))
        before = Fingerprint(**json.loads(arguments.before.read_bytes())) if arguments.before else None
    except (ImportError, AttributeError, OSError, ValueError, TypeError) as error:
        parser.error(f"{error}. Expected module:function, and a file that `codeprint --json` has printed.")
    found = fingerprint(value)
    if before:
        changes = diff(before, found)
        print(json.dumps(changes) if arguments.json else "\n".join(changes or ["nothing changed"]))
        sys.exit(bool(changes))
    if arguments.json:
        print(json.dumps(asdict(found)))
        return
    print(found.digest)
    for name, text in found.parts.items():
        print(f"  {name} {text}".rstrip())
    for sentence in found.uncertain:
        print(f"  uncertain: {sentence}")


if __name__ == "__main__":
    main()
