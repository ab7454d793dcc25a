"""Renderers from a plan to code that runs, one room a language."""
