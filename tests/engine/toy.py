"""A second backend, in torch: plans followed node by node. It knows nothing of the first."""

import ctypes
from math import prod

import torch

from weft.engine.ir.interpret import _tensor
from weft.engine.ir.ops import POINTWISE, REDUCED, evaluate
from weft.engine.plan.plan import FULL, HOST, SCALAR, VECTOR

CPU = torch.device("cpu")


class ToyKernel:
    """A plan as it is; its verdicts die with the process."""

    def __init__(self, plan):
        self.source, self.key, self.notes = f"{plan.graph}", f"toy {id(self)}", {}

    def note(self, name, words):
        self.notes[name] = words


class ToyLaunch:
    """Addresses, rows and values; what phases compute on the way is kept in `found`."""

    inputs, grid = None, "one by one"

    def __init__(self, plans, sizes):
        self.plans, self.tensors, self.elements = plans, len(plans), sum(sizes)
        self.values = torch.zeros(len(plans), max(1, len(plans[0].values)), dtype=torch.float64)
        self.addresses, self.rows, self.row_of = {}, [], []
        self.found = [{} for _ in plans]  # scalars, and vectors

    def point(self, slot, addresses):
        self.addresses |= {(slot, t): address for t, address in enumerate(addresses)}

    def point_one(self, slot, t, address):
        self.addresses[slot, t] = address

    def set_rows(self, rows, row_of):
        self.rows = list(rows)
        self.row_of = self.row_of if row_of is None else list(row_of)

    def value(self, tensor, place):
        return float(self.values[tensor, place])

    def run(self, begin, end):
        for t, plan in enumerate(self.plans):
            if begin == 0:
                self._scalars(t, plan, 0)
            for at in range(begin, end):
                self._pass(t, plan, at)
                self._scalars(t, plan, at + 1)

    def run_scalars(self, phase):
        for t, plan in enumerate(self.plans):
            self._scalars(t, plan, phase)

    def _pass(self, t, plan, at):
        here = dict(self.found[t])
        for n in plan.body(at):
            slot = plan.slot_in(n, at)
            loaded = slot is not None and self._memory(t, slot, plan.shape).to(n.dtype)
            here[n.index] = self._computed(t, plan, n, here) if slot is None else loaded
        for r in plan.phases[at].reductions:
            self._keep(t, plan, r, _tensor(r, [here[r.args[0].index].double()], CPU).to(r.dtype))
        for slot, value in [(s, self._given(t, plan, n, here)) for s, n in plan.phases[at].stores]:
            self._memory(t, slot, plan.shape).copy_(torch.as_tensor(value))

    def _scalars(self, t, plan, at):
        for n in plan.graph.live():
            from_outside = n.is_given or (n.op in REDUCED and plan.kind(n.args[0]) == FULL)
            here = plan.kind(n) in (SCALAR, VECTOR) and plan.ready_in[n.index] == at
            if here and not from_outside:
                self._keep(t, plan, n, self._computed(t, plan, n, self.found[t]))
        if at == len(plan.phases):
            for slot, n in plan.tail:
                value = torch.as_tensor(self._given(t, plan, n, self.found[t]))
                self._memory(t, slot, value.shape).copy_(value)

    def _keep(self, t, plan, n, value):
        if plan.kind(n) == SCALAR:
            self.values[t, plan.values[n.index]] = float(value)
        else:
            self.found[t][n.index] = value

    def _computed(self, t, plan, n, here):
        if n.op == "load":
            return self._memory(t, plan.loadable_from[n.index][0], n.shape or ()).to(n.dtype)
        args = [self._given(t, plan, a, here) for a in n.args]
        return evaluate(n.op, args) if n.is_host else _tensor(n, args, CPU)

    def _given(self, t, plan, n, here):
        """A value where another node, or memory, takes it."""
        if plan.kind(n) == HOST:
            held = n.index in plan.rows
            number = self.rows[self.row_of[t]][plan.rows[n.index]] if held else n.attr("value")
            return n.dtype(number)
        if plan.kind(n) == SCALAR:
            number = self.value(t, plan.values[n.index])
            if n.is_host:
                return n.dtype(number)
            return torch.tensor(number, dtype=n.dtype).reshape(n.shape or ())
        if n.index in here:
            return here[n.index]
        return self._memory(t, plan.loadable_from[n.index][0], n.shape or ()).to(n.dtype)  # torch's

    def _memory(self, t, slot, shape):
        """The tensor at a slot's address, element after element as it lies there."""
        dtype, count = self.plans[t].slots[slot].dtype, prod(shape)
        room = (ctypes.c_char * (count * dtype.itemsize)).from_address(self.addresses[slot, t])
        return torch.frombuffer(room, dtype=dtype, count=count).view(shape)


class ToyStep:
    def __init__(self, launches, counts):
        self.launches, self.counts = launches, counts

    def run(self):
        from weft.engine.host.native import native

        for launch in self.launches:
            launch.run(0, len(launch.plans[0].phases))
        native().count(self.counts)


class Toy:
    """Serves CPU memory, all in Python."""

    device, waits = "cpu", False

    def require(self):
        """Nothing."""

    def capturing(self):
        """Never."""
        return False

    def lowers(self, n):
        return n.op in POINTWISE or n.op in REDUCED

    def lay_out(self, plan):
        """As torch does."""

    def compile(self, plan, title):
        return ToyKernel(plan)

    def launch(self, kernel, plans, sizes):
        return ToyLaunch(plans, sizes)

    def whole_step(self, launches, counts):
        return ToyStep(launches, counts)
