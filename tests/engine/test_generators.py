"""Random generators in callbacks: what is drawn is the eager loop's, and so is every state left behind."""

import collections
import itertools

import pytest
import torch

import weft
from weft.callbacks import descend

SHAPES = ((4, 3), (5,))


def run(cb, engine, seed=None, steps=4):
    """Steps with another rate each; gives the optimizer, the parameters and what was said."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s)) for s in SHAPES]
    opt = weft.Optimizer(params, [cb, descend], lr=0.1, engine=engine)
    if seed is not None:
        seed.manual_seed(5)
    for k in range(steps):
        opt.param_groups[0]["lr"] = 0.1 + 0.02 * k
        for p in params:
            p.grad = torch.full(p.shape, 0.3 + k)
        opt.step()
    return opt, [p.detach() for p in params]


def same(cb, seed=None):
    """See that a chain fuses, and steps as the eager loop does."""
    _, x = run(cb, "eager", seed)
    opt, y = run(cb, "fused", seed)
    assert opt.explain().builds == 1
    torch.testing.assert_close(x, y)


def falls(cb, reason):
    """See that a chain falls back, and steps as the eager loop does."""
    _, x = run(cb, "eager")
    with pytest.warns(weft.WeftWarning, match=reason):
        _, y = run(cb, "auto")
    assert all(map(torch.equal, x, y))


# ---------------------------------------------------------------- what can be drawn from

mine = torch.Generator()


def of_a_global(update):
    return {"update": update + torch.randn(update.shape, generator=mine)}


def in_place(update):
    return {"update": update + torch.empty_like(update).uniform_(0, 1, generator=mine)}


def of_torchs(update):
    return {"update": update + torch.randn_like(update)}


@pytest.mark.parametrize("cb", [of_a_global, in_place, of_torchs])
def test_draws_from_what_a_callback_brought_along(cb):
    same(cb, mine)


def test_a_generator_in_an_attribute_and_one_in_an_argument():
    class Noisy:
        def __init__(self):
            self.source = mine

        def __call__(self, update):
            return {"update": update + torch.randn(update.shape, generator=self.source)}

    same(Noisy(), mine)

    def drawn(update, source):
        return update + torch.rand(update.shape, generator=source)

    same(lambda update: {"update": drawn(update, mine)}, mine)


# ---------------------------------------------------------------- what each step would do again


def made(update):
    return {"update": update + torch.randn(update.shape, generator=torch.Generator())}


def made_and_seeded(update):
    g = torch.Generator().manual_seed(0)
    return {"update": update + torch.randn(update.shape, generator=g)}


def kept(update, source=None):
    source = source or torch.Generator()
    return {"update": update + torch.randn(update.shape, generator=source), "source": source}


def seeds_its_own(update):
    mine.manual_seed(7)
    return {"update": update + torch.randn(update.shape, generator=mine)}


def sets_its_own(update, held=mine.get_state()):
    mine.set_state(held)
    return {"update": update + torch.randn(update.shape, generator=mine)}


def forks(update):
    with torch.random.fork_rng():
        return {"update": update + torch.randn_like(update)}


def seeds(update, step):
    torch.manual_seed(step)
    return {"update": update + torch.randn_like(update)}


def seeds_alike(update):
    torch.manual_seed(0)
    return {"update": update + torch.randn_like(update)}


def seeded():
    torch.random.default_generator.manual_seed(3)


def by_a_helper(update):
    seeded()
    return {"update": update + torch.randn_like(update)}


@pytest.mark.filterwarnings("ignore::weft.WeftWarning")
@pytest.mark.parametrize(
    "cb",
    [made, made_and_seeded, seeds_its_own, sets_its_own, forks, seeds, seeds_alike, by_a_helper],
)
def test_what_handles_the_state_of_a_generator_runs_eagerly(cb):
    before = torch.get_rng_state(), mine.get_state()
    falls(cb, "random generator")
    torch.set_rng_state(before[0])
    mine.set_state(before[1])


def test_a_generator_that_is_kept():
    with pytest.warns(weft.WeftWarning, match="makes a random generator"):
        opt, _ = run(kept, "auto")
    sources = [s["source"] for s in opt.state.values()]
    assert sources[0] is not sources[1]
    assert all(type(s) is torch.Generator for s in sources)


def test_tracing_leaves_generators_alone():
    before = []

    def watched(update):
        return {"update": update + torch.randn(update.shape, generator=mine)}

    torch.manual_seed(0)
    before += [torch.get_rng_state(), mine.get_state()]
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    weft.Optimizer([p], [watched, descend], lr=0.1, engine="fused").step()
    assert torch.equal(torch.get_rng_state(), before[0])
    now = mine.get_state()
    mine.set_state(before[1])
    torch.randn(3, generator=mine)
    assert torch.equal(mine.get_state(), now)


# ---------------------------------------------------------------- other things that hold state


def counts(update, lr, held=None):
    held = held or itertools.count(1)
    return {"update": update * next(held), "held": held}


def queues(update, held=None):
    held = held or collections.deque()
    held.append(1)
    return {"update": update * len(held), "held": held}


@pytest.mark.parametrize("cb", [counts, queues])
def test_an_object_that_a_callback_makes_and_keeps(cb):
    falls(cb, "state 'held' is a")


def test_what_an_object_of_torchs_holds_is_looked_at_again():
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(other)

    def cb(update):
        return {"update": update * (1 + schedule.last_epoch)}

    ends = []
    for engine in ("eager", "auto"):
        schedule.last_epoch = 0
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(3))
        opt = weft.Optimizer([p], [cb, descend], lr=0.1, engine=engine)
        for k in range(3):
            schedule.last_epoch = k
            p.grad = torch.ones(3)
            opt.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)
