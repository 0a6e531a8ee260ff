"""A shop's dashboard, once with one query after another and once with all at once."""
