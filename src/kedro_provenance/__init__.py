"""A Kedro plug-in: provenance of results, plans of what is out of date, atomic versions, and manifests."""
