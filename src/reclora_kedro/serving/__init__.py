"""The live service: the current model and all events since, over HTTP."""
