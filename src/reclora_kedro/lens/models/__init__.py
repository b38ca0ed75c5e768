"""CTR models, one file each; a file holds one subclass of :class:`reclora_kedro.lens.base.Lens`."""
