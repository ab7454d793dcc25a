import pytest


@pytest.fixture(autouse=True)
def _eager(monkeypatch):
    """A race is about runs, not about kernels: what builds none is quick."""
    monkeypatch.setenv("WEFT_ENGINE", "eager")
