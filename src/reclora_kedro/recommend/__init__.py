"""What to recommend: candidates, their ranking, and how well it finds what users take."""
