"""Paths of optimizers down functions of two variables."""

from weft.paths.several import Paths, path
from weft.paths.surfaces import SURFACES, Surface
from weft.paths.walk import Trail, walk

__all__ = ["SURFACES", "Paths", "Surface", "Trail", "path", "walk"]
