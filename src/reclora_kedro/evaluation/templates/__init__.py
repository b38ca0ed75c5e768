"""Templates of pages, in a package of their own: an edit makes the pages again, not all that reads a metric."""
