"""The reference: a chain run callback by callback, one parameter at a time."""
