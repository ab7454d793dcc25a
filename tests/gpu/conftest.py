"""Tests that need a GPU: `pytest -m gpu`, `make test-gpu`; on one that the CPU plays, `make test-played`."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
PLAYED = str(HERE / "played") in sys.path
sys.path.insert(0, str(HERE.parent / "engine"))


def pytest_configure():
    if PLAYED and shutil.which("c++") and not torch.cuda.is_available():
        raise pytest.UsageError(
            "the played GPU cannot be built: `python -c 'import card'` says why"
        )


def pytest_collection_modifyitems(items):
    reason = "there is no GPU" + (", and no C++ compiler to play one" if PLAYED else "")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason=reason))
