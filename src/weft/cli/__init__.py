"""The command `weft`."""

from weft.cli.main import app as app
from weft.cli.main import main as main
