"""The packages whose code is the project's own."""

PACKAGES = ("reclora_kedro", "reclora_extras", "kedro_provenance")
