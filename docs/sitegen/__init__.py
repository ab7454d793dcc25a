"""What makes pages of the site from the registry and from docstrings, when the site is built."""
