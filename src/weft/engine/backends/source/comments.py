"""What the generated C says about itself: host scalars, slots and callbacks, in comments."""

import re

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import host_expression
from weft.engine.plan.plan import Plan, Role

__all__ = ["comment", "host_words", "scalar_words", "slot_words"]

LONGEST = 80  # characters of an expression
DEEPEST = 6  # ops inside each other
ROLES = {
    Role.P: "the parameter",
    Role.GRAD: "the grad",
    Role.STATE: "state {name}",
    Role.NEW: "state {name}, which this step makes",
    Role.TEMP: "a result of torch, for {sources}",
    Role.SCRATCH: "a vector of {sources}",
}


def comment(text: str) -> str:
    """Text that can neither end the comment it is in nor open one, nor hide a line."""
    legible = re.sub(r"[*]/|/[*]", "__", text)
    legible = re.sub(r"[^\w .,:;=+<>()\[\]*/%!-]", "_", legible, flags=re.ASCII)
    return f"/* {legible} */"


def host_words(n: Node) -> str:
    """A host scalar as its expression over hypers, numbers of state and the step."""
    if n.op == "const":
        return f"depends on the shape: {_expression(n, 0)}, say"
    words = _expression(n, DEEPEST)
    words = words[1:-1] if words.startswith("(") else words
    return words if len(words) <= LONGEST else words[: LONGEST - 3] + "..."


def _expression(n: Node, depth: int) -> str:
    if n.op == "const":
        return f"{n.attr('value'):.6g}"
    if n.is_leaf:
        return str(n.attr("name", n.op)) + "".join(f"[{i}]" for i in n.attr("index", ()))
    if not depth:  # a value that is read twice at each level would double the words
        return "..."
    return host_expression(n.op, [_expression(a, depth - 1) for a in n.args]).removeprefix("math.")


def scalar_words(n: Node) -> str:
    """What a scalar of a tensor is, where it is read."""
    if n.is_given and n.op != "over":
        return _expression(n, 0)
    if n.op == "over":
        return f"{n.attr('name')} over all parameters"
    return f"{n.op} of {n.source}" if n.source else n.op


def slot_words(plan: Plan, slot: int) -> str:
    """What a pointer points to, and for inner results, of which callbacks."""
    s = plan.slots[slot]
    nodes = [plan.graph.nodes[i] for i, (s, _) in plan.loadable_from.items() if s == slot]
    sources = ", ".join(dict.fromkeys(n.source for n in nodes if n.source))
    return ROLES[s.role].format(name=s.name, sources=sources or "the step")
