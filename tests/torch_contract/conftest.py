"""Every test here runs under both engines: `WEFT_ENGINE` reaches an optimizer however it is made."""

import pytest


def pytest_collection_modifyitems(items):
    """What falls back to the eager loop says so; that is no failure of the contract."""
    for item in items:
        if "torch_contract" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("default::weft.WeftWarning"), append=False)


@pytest.fixture(params=["eager", "auto"], autouse=True)
def engine(request, monkeypatch):
    """The engine of every optimizer that a test makes, in this process and its children."""
    monkeypatch.setenv("WEFT_ENGINE", request.param)
    return request.param
