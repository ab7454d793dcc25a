import pytest


@pytest.fixture(params=["eager", "auto"])
def engine(request, monkeypatch):
    """Run a test under each engine: what holds for the original loop holds for the kernels.

    A fallback is not what these tests are about, so its warning is let be.
    """
    monkeypatch.setenv("WEFT_ENGINE", request.param)
    request.node.add_marker(pytest.mark.filterwarnings("ignore::weft.WeftWarning"))
    return request.param
