"""Python imports this first of all, where its folder is in PYTHONPATH: a GPU is played then."""

import card  # noqa: F401
