"""Optimizers are short: a chain is a list of blocks, and a block an equation or two."""

import ast
import inspect
import statistics
import textwrap

import pytest

from weft import callbacks
from weft.optimizers import algorithms

BLOCKS = {n: getattr(callbacks, n) for n in callbacks.__all__}
FUNCTIONS = {n: f for n, f in BLOCKS.items() if inspect.isfunction(f)}

# blocks of more than 14 lines, with the reason
LONG = {
    "posterior": "a Kalman filter: three states that move together, and their first values",
}

# blocks of the same form that mean different things: roots of factors, or bases
ALIKE = [["precondition_axes", "rotate_back"]]


def lines_of_code(fn):
    """Lines of a definition, without decorators, docstring, comments and empty lines."""
    source = textwrap.dedent(inspect.getsource(fn))
    node = ast.parse(source).body[0]
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    skipped = range(first.lineno, first.end_lineno + 1) if is_docstring else ()
    return sum(
        bool(line.strip()) and not line.strip().startswith("#")
        for n, line in enumerate(source.splitlines(), 1)
        if n >= node.lineno and n not in skipped
    )


def test_the_median_chain_has_at_most_twelve_lines():
    lengths = {n: lines_of_code(cls.chain.__func__) for n, cls in algorithms().items()}
    assert statistics.median(lengths.values()) <= 12, lengths
    assert max(lengths.values()) <= 20, lengths


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_block_has_about_twelve_lines_at_most(name):
    length = lines_of_code(FUNCTIONS[name])
    assert length <= (16 if name in LONG else 14)
    assert length > 14 or name not in LONG, "no longer long: take it out of the list"


def test_the_median_block_is_an_equation():
    assert statistics.median(map(lines_of_code, FUNCTIONS.values())) <= 6


def test_no_two_blocks_say_the_same():
    """A block that repeats another's code under other names is that block, renamed."""
    bodies = {}
    for name, fn in FUNCTIONS.items():
        bodies.setdefault(shape_of(fn), []).append(name)
    assert [sorted(names) for names in bodies.values() if len(names) > 1] == ALIKE


def shape_of(fn):
    """The code of a definition with its names numbered by first use."""
    node = ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0]
    numbers = {}
    for part in ast.walk(node):
        for field in ("id", "arg", "name", "value"):
            text = getattr(part, field, None)
            if isinstance(text, str):
                setattr(part, field, str(numbers.setdefault(text, len(numbers))))
    body = [s for s in node.body if not isinstance(s, ast.Expr)]
    return ast.dump(ast.Module(body, []))
