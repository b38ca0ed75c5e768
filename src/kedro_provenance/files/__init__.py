"""Files on disk and in an object storage: whole or not at all, and known by their digests."""
