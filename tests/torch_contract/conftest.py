"""Every test here runs under both engines: `WEFT_ENGINE` reaches an optimizer however it is made."""

import pytest

# over every optimizer of the package, or two processes: in the quick run under one engine only
LONG = (
    "test_a_step_bumps_the_version_of_what_it_writes",
    "test_a_step_without_grads_is_a_no_op_and_leaves_no_empty_state",
    "test_zero_grads_and_a_zero_rate_make_all_state_and_move_nothing",
    "test_two_processes",
)


def pytest_collection_modifyitems(items):
    """What falls back to the eager loop says so; that is no failure of the contract."""
    for item in items:
        if "torch_contract" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("default::weft.WeftWarning"), append=False)
            if item.originalname in LONG and item.callspec.params["engine"] == "eager":
                item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["eager", "auto"], autouse=True)
def engine(request, monkeypatch):
    """The engine of every optimizer that a test makes, in this process and its children."""
    monkeypatch.setenv("WEFT_ENGINE", request.param)
    return request.param
