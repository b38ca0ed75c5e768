"""Next-item models, one file each; a file holds one subclass of :class:`reclora_kedro.candidates.base.Retriever`."""
