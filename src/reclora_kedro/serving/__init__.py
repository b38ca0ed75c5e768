"""The live service: a champion and the events since, answered over HTTP."""
