"""What the page of the literature says is so."""

import ast
import re

import pytest
import torch
from site_pages import ROOT

import weft
from parity.cases import CASES
from parity.references import REFERENCES
from sitegen import coverage
from weft import callbacks, wrappers
from weft.optimizers import algorithms
from wrappers.test_wrappers import AROUND

ROWS = coverage.catalogue()
PEERS = {"torch", "pytorch_optimizer", "optax", "optimi", "schedulefree"}


def rows(status):
    return [pytest.param(r, id=r["name"]) for r in ROWS if r["status"] == status]


def test_every_algorithm_of_the_catalogue_has_a_row():
    assert len(ROWS) == len({r["name"] for r in ROWS}) == 251
    assert sum(r["in_peer_union"] == "yes" for r in ROWS) == 218
    assert {r["status"] for r in ROWS} == set(coverage.STATUS)
    assert all(r["weft"] for r in ROWS)


def test_eighty_of_them_ship_and_some_of_each_class():
    shipped = [r for r in ROWS if r["status"] == "shipped" and r["in_peer_union"] == "yes"]
    assert len(shipped) >= 80
    assert {r["class"] for r in shipped} == {r["class"] for r in ROWS}


@pytest.mark.parametrize("row", rows("shipped"))
def test_what_ships_has_been_compared(row):
    names = coverage.names_of(row)
    for name in names:
        assert hasattr(weft, name) or name in callbacks.__all__, f"weft has no {name}"
    for compared in row["compared"].split("; "):
        reference, peers = re.fullmatch(r"([\w./]+)(?: \((.*)\))?", compared).groups()
        assert peers is None or set(peers.split(", ")) <= PEERS
        if reference.startswith("tests/"):
            assert (ROOT / reference).exists()
        else:
            assert reference in REFERENCES
            own = {c.reference for c in CASES if c.name in names}
            around = {r for name, r, *_ in AROUND if name in names}
            modified = {c.reference for c in CASES if c.build is not None}
            modifier = not any(name.lower() in algorithms() for name in names)
            assert reference in own | around | (modified if modifier else set())


@pytest.mark.parametrize("row", rows("expressible"))
def test_what_is_expressible_is_a_chain_that_can_be_built(row):
    names = {n.id for n in ast.walk(ast.parse(row["weft"])) if isinstance(n, ast.Name)}
    own = sorted(names - {"weft", "cb", "model"})
    assert len(own) <= 2
    scope = {name: stand_in(name) for name in own}
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    chain = eval(row["weft"], {"weft": weft, "cb": callbacks, "model": model, **scope})
    if not own:  # then it is all there, and trains
        p = torch.nn.Parameter(torch.eye(4) + 0.1)
        p.grad = torch.arange(16.0).reshape(4, 4).cos()
        opt = chain([p], lr=0.1)
        before = p.detach().clone()
        for _ in range(3):
            opt.step()
        assert p.isfinite().all()
        assert not torch.equal(p, before)


def stand_in(name):
    """Something that can stand where a callback, a wrapper or a rule of its own would."""
    if name[0].isupper():
        return type(name, (weft.Wrapper,), {})
    if name.startswith("is_"):
        return lambda name, p: p.ndim == 2

    def callback(update):
        return {"update": update}

    callback.__name__ = name
    return callback


def test_what_is_public_around_a_step_is_in_a_row_or_tested():
    named = {name for r in ROWS if r["status"] == "shipped" for name in coverage.names_of(r)}
    besides = {"AtAverage", "Hutchinson"}  # parts of ScheduleFree..., AdaHessian and Sophia
    assert set(wrappers.__all__) - besides <= named
