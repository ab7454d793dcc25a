"""Independent references: the papers' equations in plain float64, by name in `REFERENCES`."""

from __future__ import annotations

import importlib
import pkgutil

from .base import REFERENCES, Reference, reference

# every module of this folder registers its references when imported
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["REFERENCES", "Reference", "reference"]
