"""Tests of the packages that drive a torch optimizer, each as it is installed."""

import importlib.util

import pytest

# fastai lives in a virtual environment of its own: test_fastai.py runs this file there
collect_ignore = [] if importlib.util.find_spec("fastai") else ["in_fastai.py"]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No client looks anything up, and what one writes goes where the test's files go."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
