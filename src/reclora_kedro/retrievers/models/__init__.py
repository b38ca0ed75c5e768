"""Next-item models, one file each; a file holds one subclass of :class:`reclora_kedro.retrievers.base.Retriever`."""
