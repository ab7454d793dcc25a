import os
import shutil
import tempfile

import pytest

import weft


def pytest_configure(config):
    """Kernels of tests are kept apart from the user's, from run to run, for all workers."""
    if "WEFT_CACHE_DIR" in os.environ:
        return  # a worker's is that of the run
    cache = getattr(config, "cache", None)
    if cache is not None:
        os.environ["WEFT_CACHE_DIR"] = str(cache.mkdir("weft"))
    else:
        os.environ["WEFT_CACHE_DIR"] = made = tempfile.mkdtemp(prefix="weft-tests-")
        config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))


@pytest.fixture(params=["eager", "auto"])
def engine(request, monkeypatch):
    """Run a test under each engine: what holds for the original loop holds for the kernels.

    A test whose callbacks have effects that no kernel keeps says so with `falls_back`, and why;
    every other one has to run fused: the warning of a fallback is an error.
    """
    monkeypatch.setenv("WEFT_ENGINE", request.param)
    reason = request.node.get_closest_marker("falls_back")
    if reason is None or request.param == "eager":
        yield request.param
    else:
        with pytest.warns(weft.WeftWarning, match=f"runs eagerly.*{reason.args[0]}"):
            yield request.param
