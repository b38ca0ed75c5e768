"""Files on disk and in an object storage: atomic writing and digests."""
