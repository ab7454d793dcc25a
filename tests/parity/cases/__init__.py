"""Every comparison, a family a file."""

import importlib
import pkgutil

from parity.case import Case

CASES: list[Case] = [
    case
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__))
    for case in importlib.import_module(f"{__name__}.{module}").CASES
]
