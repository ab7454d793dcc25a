"""What must hold at an edge: each takes a trial and returns what is wrong, in words."""

import copy
import io
import pickle
from contextlib import nullcontext

import torch

from edges.runs import Run, Trial

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # engines, of the largest movement


def fractions(value):
    """The tensors of fractions in a state."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in fractions(v)] if isinstance(value, list | tuple) else []


def furthest(a, b):
    """The largest difference over two lists of parameters; infinite where only one is finite."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if not torch.equal(x.isfinite(), y.isfinite()):
            return float("inf")
        if x.numel():
            worst = max(worst, float((x.double() - y.double()).nan_to_num(0, 0, 0).abs().max()))
    return worst


def apart(ours: Run, theirs: Run, among=None) -> tuple[float, tuple]:
    """How far two runs are apart beyond rounding of the parameter, of the largest movement; and where."""
    worst, where = 0.0, ()
    for i in range(len(theirs.params)) if among is None else among:
        start, moved = theirs.history[0][i].double(), 0.0
        for t in range(1, min(len(ours.history), len(theirs.history))):
            a, b = ours.history[t][i], theirs.history[t][i]
            moved = max(moved, furthest([b], [start]))
            size = max(furthest([b], [0 * b]), furthest([start], [0 * start]))
            error = furthest([a], [b]) - t * torch.finfo(a.dtype).eps * size
            relative = error / moved if moved else error * float("inf") if error > 0 else 0.0
            if relative > worst:
                worst, where = relative, (t, tuple(start.shape))
    return worst, where


def finite(trial: Trial) -> list[str]:
    """No infinity and no NaN in parameters, in state, and in what is evaluated."""
    run, out = trial.run(), []
    for t, params in enumerate([*run.history, run.evaluated]):
        bad = [tuple(p.shape) for p in params if not bool(p.isfinite().all())]
        if bad:
            return [f"parameters {bad} are not finite after step {t}"]
    for p in run.params:
        for name, value in run.opt.state[p].items():
            if any(not bool(x.isfinite().all()) for x in fractions(value)):
                out.append(f"state {name!r} of {tuple(p.shape)} is not finite")
    return out


def engines_agree(trial: Trial) -> list[str]:
    """The kernels do what the eager loop does."""
    fused, eager = trial.fused(), trial.run()
    error, where = apart(fused, eager)
    if not error <= CLOSE.get(trial.edge.dtype, 2e-2):
        return [f"engines are {error:.3g} apart at {where}"]
    return []


def follows_float64(trial: Trial) -> list[str]:
    """A parameter moves as in float64."""
    ours = trial.run()
    if ours.drew:  # what is drawn differs by dtype
        return []
    error, where = apart(ours, trial.run(dtype=torch.float64))
    return [f"{error:.3g} from float64 at {where}"] if not error <= trial.edge.close else []


def as_far_as_float64(trial: Trial) -> list[str]:
    """A parameter moves as far as in float64, wherever to."""
    ours, out = trial.run(), []
    if ours.drew:
        return []
    theirs = trial.run(dtype=torch.float64)
    for i, shape in enumerate(trial.shapes):
        far = [
            [float((p[i].double() - r.history[0][i].double()).norm()) for p in r.history[1:]]
            for r in (ours, theirs)
        ]
        a, b = max(far[0], default=0.0), max(far[1], default=0.0)
        size = float(theirs.history[0][i].norm())
        rounding = len(far[0]) * torch.finfo(trial.edge.dtype).eps * size
        if not (b - 2 * rounding) / 2 <= a <= 2 * b + 2 * rounding:
            out.append(f"{shape} goes {a:.3g} far, {b:.3g} in float64")
    return out


def still(trial: Trial) -> list[str]:
    """Nothing moves."""
    run = trial.run()
    moved = max(furthest(run.history[0], p) for p in (run.history[-1], run.evaluated))
    return [f"moved by {moved:.3g}"] if moved else []


def moves(trial: Trial) -> list[str]:
    """Every parameter that has elements has moved in the end."""
    first, last = trial.run().history[0], trial.run().history[-1]
    stuck = [
        tuple(a.shape) for a, b in zip(first, last, strict=True) if a.numel() and torch.equal(a, b)
    ]
    return [f"{stuck} never moved"] if stuck else []


def no_grad_no_move(trial: Trial) -> list[str]:
    """In a step without a grad a parameter stays where it is."""
    run = trial.run()
    for t in range(trial.edge.steps):
        for i, (a, b) in enumerate(zip(run.history[t], run.history[t + 1], strict=True)):
            if trial.edge.grad(t, i, a.double()) is None and not torch.equal(a, b):
                return [f"{tuple(a.shape)} moved by {furthest([a], [b]):.3g} in step {t + 1}"]
    return []


def alone(trial: Trial) -> bool:
    """Whether each parameter goes its own way: nothing in the chain is taken over all of them."""
    opt = trial.run().opt
    return not any(b.binding.over for b in opt._bound) and trial.subject.kind != "wrapper"


def first_disturbs_none(trial: Trial) -> list[str]:
    """The other parameters go as if the first was not there, where each goes its own way."""
    run = trial.run()
    if not alone(trial) or run.drew or len(run.params) < 2:
        return []
    error, where = apart(run, trial.run(without={0}), among=range(1, len(run.params)))
    return [f"others are {error:.3g} off at {where}"] if error > 1e-6 else []


def without_first(trial: Trial) -> list[str]:
    """A first parameter that never has a grad is as good as none, whatever the method."""
    run = trial.run()
    if len(run.params) < 2:
        return []
    error, where = apart(run, trial.run(without={0}), among=range(1, len(run.params)))
    return [f"others are {error:.3g} off at {where}"] if error > 1e-6 else []


def groups_apart(trial: Trial) -> list[str]:
    """Groups go as if each had an optimizer of its own, where each parameter goes its own way."""
    run = trial.run()
    if not alone(trial) or run.drew or len(run.params) < 3:
        return []
    error, where = apart(run, trial.run(without={0, 1}), among=range(2, len(run.params)))
    return [f"the second group is {error:.3g} off at {where}"] if error > 1e-6 else []


def last_disturbs_none(trial: Trial) -> list[str]:
    """A parameter that joins later leaves the others on their way, where each goes its own."""
    run = trial.run()
    if not alone(trial) or run.drew or len(run.params) < 2:
        return []
    plain = trial.edge.with_(late=False)
    others = range(len(run.params) - 1)
    error, where = apart(run, trial.run(edge=plain, without={len(run.params) - 1}), among=others)
    return [f"others are {error:.3g} off at {where}"] if error > 1e-6 else []


def as_plain(trial: Trial) -> list[str]:
    """The same as with plain hypers, plain memory and torch's default dtype."""
    plain = trial.edge.with_(hypers=lambda own: {}, laid=lambda x: x, around=nullcontext)
    error, where = apart(trial.run(), trial.run(edge=plain))
    return [f"{error:.3g} off at {where}"] if error > 1e-4 else []


def mirrored(trial: Trial) -> list[str]:
    """The same as with the opposite grads and without the hypers."""
    grad = trial.edge.grad
    other = trial.edge.with_(hypers=lambda own: {}, grad=lambda t, i, p: -grad(t, i, p))
    error, where = apart(trial.run(), trial.run(edge=other))
    return [f"{error:.3g} off at {where}"] if error > 1e-6 else []


def state_is_made(trial: Trial) -> list[str]:
    """Every parameter has the same state, the empty ones too."""
    opt, out = trial.run().opt, []
    for bound in opt._bound:
        for p in bound.params:
            missing = set(bound.binding.states) - set(opt.state[p])
            if missing:
                out.append(f"{tuple(p.shape)} has no {sorted(missing)}")
    return out


# ---------------------------------------------------------------- going on


def same(a: Run, b: Run, close: float) -> list[str]:
    """Where two runs are not the same: bit for bit, where `close` is 0."""
    pairs = [*zip(a.history[-1], b.history[-1], strict=True)]
    pairs += [*zip(a.evaluated, b.evaluated, strict=True)]
    if close:
        error, where = apart(a, b)
        return [f"{error:.3g} off at {where}"] if error > close else []
    if any(not torch.equal(x, y) and bool(x.isfinite().all()) for x, y in pairs):
        return [f"off by {max(furthest([x], [y]) for x, y in pairs):.3g}"]
    out = []
    for p, q in zip(a.params, b.params, strict=True):
        mine, theirs = a.opt.state[p], b.opt.state[q]
        if mine.keys() != theirs.keys():
            return [f"state {sorted(set(mine) ^ set(theirs))} is in one of them only"]
        for k in mine:
            if isinstance(mine[k], torch.Tensor) and mine[k].dtype != theirs[k].dtype:
                out.append(f"state {k!r} is {theirs[k].dtype}, then {mine[k].dtype}")
    return out


def broken_off(trial: Trial, engine: str, at: int, through, evaluating=False) -> Run:
    """The edge's run with another optimizer from step `at` on: `through(trial, run)` makes it."""
    torch.manual_seed(0)
    half = trial.built(engine).go(last=at)
    if evaluating:
        half.opt.eval()
    rng = torch.get_rng_state()
    rest = through(trial, half)
    torch.set_rng_state(rng)
    if evaluating:
        rest.opt.train()
    rest.history = half.history
    return rest.go(first=at)


def file(trial: Trial, half: Run) -> Run:
    """Fresh objects that load what was written to a file."""
    buffer = io.BytesIO()
    torch.save((half.look(), half.opt.state_dict()), buffer)
    buffer.seek(0)
    values, saved = torch.load(buffer, weights_only=True)
    rest = trial.built(half.opt._engine.name)
    with torch.no_grad():
        for p, v in zip(rest.params, values, strict=True):
            p.copy_(v)
    rest.opt.load_state_dict(saved)
    return rest


def pickled(trial: Trial, half: Run) -> Run:
    opt, params = pickle.loads(pickle.dumps((half.opt, half.params)))
    return Run(half.edge, opt, params)


def copied(trial: Trial, half: Run) -> Run:
    opt, params = copy.deepcopy((half.opt, half.params))
    return Run(half.edge, opt, params)


def kept(trial: Trial, half: Run) -> Run:
    return Run(half.edge, half.opt, half.params)


def goes_on(through, at=2, evaluating=False):
    """A property: broken off and gone on with, the run is the same."""

    def holds(trial: Trial) -> list[str]:
        whole = trial.run()
        rest = broken_off(trial, "eager", at, through, evaluating)
        return same(rest, whole, 1e-5 if evaluating else 0.0)

    holds.__name__ = f"goes_on_{through.__name__}{'_evaluating' * evaluating}_{at}"
    return holds


from_file, from_pickle = goes_on(file), goes_on(pickled)
while_evaluating = goes_on(file, evaluating=True)
GOES_ON = (
    from_file,
    from_pickle,
    while_evaluating,
    goes_on(file, at=0),
    goes_on(copied),
    goes_on(kept, evaluating=True),
    goes_on(pickled, evaluating=True),
)
