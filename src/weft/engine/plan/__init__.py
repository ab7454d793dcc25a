"""A graph cut into passes over memory. Knows no language and no device."""
