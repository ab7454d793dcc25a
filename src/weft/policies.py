"""Parameter policies: which parameters decay, at which rate, and by which chain they step."""

import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from weft.chain import Chain, chain
from weft.errors import ChainError

__all__ = ["Groups", "layer_of", "param_groups", "role_of", "route"]

ROLES = ("hidden", "embedding", "head", "vector")


class Groups(list):
    """Parameter groups for an optimizer, which print as a table of what went where.

    Attributes:
        rows: of the table, its header first.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], rows: list[tuple[str, ...]]):
        super().__init__(groups)
        self.rows = rows

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in self.rows]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


# ---------------------------------------------------------------- decay and layer-wise rates


def param_groups(
    model: nn.Module,
    weight_decay: float = 0.01,
    no_decay: Any = (),
    layer_decay: float | None = None,
    lr: float | None = None,
) -> Groups:
    """Groups of a model's parameters by weight decay and, on request, by depth.

    Not decayed are biases and all other vectors, what normalisation layers have, and what
    `model.no_weight_decay()` names.

    Args:
        model: its named parameters are grouped; frozen ones too, so that they can be thawed.
        weight_decay: of all others.
        no_decay: further exclusions: a glob on names, a predicate of `(name, parameter)` or of the
            parameter, or a list of those.
        layer_decay: a layer's rate is `lr * layer_decay ** (layers above it)`: see `layer_of`.
        lr: the rate of the last layer. Without it the groups carry an `lr_scale`, by which
            `weft.Optimizer` multiplies its `lr` when it is built.

    >>> import torch, weft
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    >>> groups = weft.param_groups(net, weight_decay=0.1)
    >>> print(groups)
    group  weight_decay  tensors  elements  names
    -----  ------------  -------  --------  ----------------------------
    0      0.1           2        48        0.weight, 2.weight
    1      0             4        26        0.bias, 1.weight, ... 2.bias
    >>> opt = weft.AdamW(groups, lr=1e-3)
    """
    named = list(model.named_parameters())
    exempt = _undecayed(model, named, no_decay)
    layers = layer_of([name for name, _ in named]) if layer_decay is not None else {}
    last = max(layers.values(), default=0)
    members: dict[tuple[int, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, p in named:
        members.setdefault((layers.get(name, 0), name in exempt), []).append((name, p))
    groups = []
    for layer, spared in sorted(members):
        group: dict[str, Any] = {"params": members[layer, spared]}
        group["weight_decay"] = 0.0 if spared else weight_decay
        if layer_decay is not None:
            scale = layer_decay ** (last - layer)
            group.update({"lr_scale": scale} if lr is None else {"lr": lr * scale})
        elif lr is not None:
            group["lr"] = lr
        groups.append(group)
    return Groups(groups, _table([(str(i), g) for i, g in enumerate(groups)], "group"))


def _undecayed(model: nn.Module, named: list[tuple[str, nn.Parameter]], more: Any) -> set[str]:
    """The names of the parameters that do not decay."""
    own: Any = getattr(model, "no_weight_decay", ())
    told: set[str] = {*(own() if callable(own) else own)}  # type: ignore[misc]
    tests = [_predicate(m) for m in (more if isinstance(more, list | tuple | set) else [more])]
    normal = {id(p) for m in model.modules() if _normalises(m) for p in m.parameters(recurse=False)}
    return {
        name
        for name, p in named
        if p.ndim < 2 or name.endswith("bias") or id(p) in normal or name in told
        or any(test(name, p) for test in tests)
    }  # fmt: skip


def _normalises(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, one's own included: its class says so."""
    return "norm" in type(module).__name__.lower() and not any(module.children())


def layer_of(names: Iterable[str]) -> dict[str, int]:
    """The depth of each parameter, read from names in the order of the model.

    A block is what shares a name up to its first number (`blocks.3`, `layer1.0`), and blocks count
    from 1. What comes before the first is layer 0; what is not in a block otherwise is the last.

    >>> layer_of(["embed.weight", "blocks.0.w", "blocks.0.b", "blocks.1.w", "head.weight"])
    {'embed.weight': 0, 'blocks.0.w': 1, 'blocks.0.b': 1, 'blocks.1.w': 2, 'head.weight': 3}
    """
    names = list(names)
    blocks = {name: _block(name) for name in names}
    depth = {b: i + 1 for i, b in enumerate(dict.fromkeys(b for b in blocks.values() if b))}
    out: dict[str, int] = {}
    for name in names:
        begun = any(blocks[n] for n in out)
        out[name] = depth[blocks[name]] if blocks[name] else (len(depth) + 1 if begun else 0)
    return out


def _block(name: str) -> str:
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return "" if at is None else ".".join(parts[: at + 1])


# ---------------------------------------------------------------- several chains for one model


def route(model: nn.Module, rules: Mapping[Any, Any]) -> Groups:
    """Groups that send a model's parameters to chains: the first rule that matches decides.

    Args:
        model: every named parameter of it must be matched.
        rules: what is matched -> a chain, a list of callbacks, or an optimizer's class. To match
            give a role ("hidden", "embedding", "head" or "vector": see `role_of`), a glob on names
            ("*" is all the rest), or a predicate of `(name, parameter)` or of the parameter.

    Raises:
        ChainError: for parameters that no rule matches, by their names.

    >>> import torch, weft
    >>> linear = lambda n: torch.nn.Linear(4, n, bias=False)
    >>> net = torch.nn.Sequential(torch.nn.Embedding(9, 4), linear(4), linear(9))
    >>> groups = weft.route(net, {"hidden": weft.Muon.chain(lr=0.02), "*": weft.AdamW.chain()})
    >>> print(groups)
    rule    chain                               weight_decay  lr     tensors  elements  names
    ------  ----------------------------------  ------------  -----  -------  --------  ------------------
    hidden  weight_decay, average, ... descend  0.1           0.02   1        16        1.weight
    *       weight_decay, ema, ... descend      0.01          0.001  2        72        0.weight, 2.weight
    >>> opt = weft.Optimizer(groups)
    """
    named = list(model.named_parameters())
    roles = role_of(model)
    members: dict[int, list[tuple[str, nn.Parameter]]] = {i: [] for i in range(len(rules))}
    tests = [_predicate(rule, roles) for rule in rules]
    lost = []
    for name, p in named:
        at = next((i for i, test in enumerate(tests) if test(name, p)), None)
        if at is None:
            lost.append(f"{name} {tuple(p.shape)}, {roles[name]}")
        else:
            members[at].append((name, p))
    if lost:
        raise ChainError(
            f"route: no rule of {[_label(r) for r in rules]} matches {'; '.join(lost)}: add one, "
            'such as "*" for all the rest'
        )
    groups, rows = [], []
    for i, (rule, given) in enumerate(rules.items()):
        own = _chain(given)
        group = {"params": members[i], "cbs": own}
        rows.append((_label(rule), group))
        if members[i]:
            groups.append(group)
    return Groups(groups, _table(rows, "rule"))


def role_of(model: nn.Module) -> dict[str, str]:
    """What each parameter is in its model: "vector", "embedding", "head" or "hidden".

    Vectors have fewer than two axes. Embeddings belong to an `nn.Embedding`, or "emb" is in their
    name. The head is what is called head, classifier or fc_out, and the last matrix that the model
    registers, where it is of an `nn.Linear`. All the rest is hidden.

    >>> import torch
    >>> role_of(torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(3, 1)))
    {'0.weight': 'hidden', '1.weight': 'head', '1.bias': 'vector'}
    """
    embedded = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Embedding | nn.EmbeddingBag)
        for p in m.parameters(recurse=False)
    }
    linear = [p for m in model.modules() if isinstance(m, nn.Linear) for p in (m.weight,)]
    twice = list(model.named_parameters(remove_duplicate=False))  # a tied head is the last, too
    last = next((p for _, p in reversed(twice) if p.ndim >= 2), None)
    roles = {}
    for name, p in model.named_parameters():
        words = name.lower().split(".")
        if p.ndim < 2:
            roles[name] = "vector"
        elif id(p) in embedded or any("emb" in w for w in words):
            roles[name] = "embedding"
        elif any(w in HEADS or w.endswith("_head") for w in words):
            roles[name] = "head"
        else:
            is_last = p is last and any(p is q for q in linear)
            roles[name] = "head" if is_last else "hidden"
    return roles


HEADS = ("head", "classifier", "fc_out", "output_projection")


def _predicate(rule: Any, roles: Mapping[str, str] | None = None) -> Callable[..., bool]:
    """A rule as a function of a name and a parameter."""
    if isinstance(rule, str):
        if roles is not None and rule in ROLES:
            return lambda name, p: roles[name] == rule
        return lambda name, p: fnmatch.fnmatchcase(name, rule)
    if not callable(rule):
        raise TypeError(f"a rule is a glob on names or a predicate, not {rule!r}")
    one = len(inspect.signature(rule).parameters) == 1
    return (lambda name, p: bool(rule(p))) if one else (lambda name, p: bool(rule(name, p)))


def _chain(given: Any) -> Chain:
    if isinstance(given, Chain):
        return given
    return given.chain() if isinstance(given, type) else chain(*given)


# ---------------------------------------------------------------- the table


def _label(rule: Any) -> str:
    return rule if isinstance(rule, str) else getattr(rule, "__name__", repr(rule))


def _table(groups: list[tuple[str, dict[str, Any]]], first: str) -> list[tuple[str, ...]]:
    """The rows of a table: of the hypers, those that some group has."""
    hypers = [k for k in ("weight_decay", "lr", "lr_scale") if any(_has(g, k) for _, g in groups)]
    chains = any("cbs" in g for _, g in groups)
    rows = [(first, *(["chain"] if chains else []), *hypers, "tensors", "elements", "names")]
    for label, g in groups:
        named = g["params"]
        rows.append((
            label,
            *([_few(list(g["cbs"].names))] if chains else []),
            *(f"{_value(g, k):.4g}" if _has(g, k) else "" for k in hypers),
            str(len(named)),
            f"{sum(p.numel() for _, p in named):,}",
            _few([n for n, _ in named]),
        ))  # fmt: skip
    return rows


def _has(group: Mapping[str, Any], name: str) -> bool:
    return name in group or name in getattr(group.get("cbs"), "defaults", {})


def _value(group: Mapping[str, Any], name: str) -> Any:
    return group[name] if name in group else group["cbs"].defaults[name]


def _few(words: list[str]) -> str:
    """The first words and the last."""
    return ", ".join(words) if len(words) < 4 else f"{', '.join(words[:2])}, ... {words[-1]}"
