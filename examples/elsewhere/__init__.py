"""``QueryGatherer`` without Flask."""
