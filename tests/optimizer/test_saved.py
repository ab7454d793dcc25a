"""What an earlier version saved loads and goes on: its state dicts, and its pickles."""

import functools
import pickle

import pytest
import torch
from saved import job

VERSIONS = ["eaa1b8b"]

# what was mended since, so that a run goes on otherwise: (job, why)
MENDED: dict[str, str] = {
    "swan": "a direction that the gradient does not have got a step of length one, by rounding",
}

pytestmark = pytest.mark.filterwarnings("ignore")
read = functools.lru_cache(job.read)
EVERY = [(version, name) for version in VERSIONS for name in job.jobs()]


def goes_on(opt, saved, name):
    """The next steps lead where they led."""
    after = job.train(opt, job.STEPS, 2 * job.STEPS)
    if name not in MENDED:
        for p, e in zip(after, saved["after"], strict=True):
            torch.testing.assert_close(p, e, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_a_state_dict_goes_on(version, name):
    saved = read(version)[name]
    params = [torch.nn.Parameter(p.clone()) for p in saved["params"]]
    opt = job.make(name, params)
    opt.load_state_dict(saved["state_dict"])
    goes_on(opt, saved, name)


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_a_pickle_goes_on(version, name):
    saved = read(version)[name]
    if "pickle" not in saved:
        assert "pickle" in saved["why not"]  # it could not be saved then
        return
    goes_on(pickle.loads(saved["pickle"]), saved, name)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_of_a_file_is_still_there(version):
    assert set(read(version)) <= set(job.jobs())
