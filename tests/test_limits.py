"""docs/limits.md and the code say the same: a refusal names its heading, and a heading is refused or tested."""

import re
from pathlib import Path

import pytest
import torch

import weft
from weft import callbacks as cb

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "limits.md").read_text()
SOURCE = {f: f.read_text() for f in (ROOT / "src" / "weft").rglob("*.py")}
NAMED = re.compile(r"docs/limits\.md#([\w-]+)")


def anchors():
    """The headings, as links name them."""
    headings = re.findall(r"^## (.+)$", PAGE, flags=re.M)
    return [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings]


def param(*shape, grad=True, **options):
    p = torch.nn.Parameter(torch.ones(shape, **options))
    p.grad = torch.ones_like(p) if grad else None
    return p


def sparse():
    table = torch.nn.Embedding(4, 3, sparse=True)
    table(torch.tensor([1])).sum().backward()
    weft.AdamW(table.parameters()).step()


def untraceable():
    def odd(p, lr):
        while p.abs().sum() > 1000:
            p.data.mul_(0.5)

    weft.Optimizer([param(3)], [odd], lr=0.1, engine="fused").step()


REFUSED = {
    "sparse-grads": [sparse],
    "complex-parameters": [lambda: weft.Muon([param(3, 3, dtype=torch.complex64)])],
    "methods-for-matrices": [
        lambda: weft.chain(cb.ema, weft.mark(lambda update: {"update": update}, ndim=(2,)),
                           cb.descend, lr=0.1)([param(3)]),
    ],
    "closures": [
        lambda: weft.SAM(weft.SGD([param(3)])).step(),
        lambda: weft.AdaHessian([param(3)]).step(),
    ],
    "the-loss": [
        lambda: weft.chain(lambda p, loss, lr: {"p": p - lr * loss}, lr=0.1)([param(3)]).step()
    ],
    "two-of-a-kind": [
        lambda: weft.Optimizer([param(3)], [cb.weight_decay, cb.l2, cb.descend], lr=0.1),
        lambda: weft.Lookahead(weft.Lookahead(weft.SGD([param(3)]))),
    ],
    "only-on-some-engines": [untraceable],
    "names-that-nobody-reads": [lambda: weft.AdamW.chain()([param(3)], weight_decoy=0.1)],
}  # fmt: skip

CASES = [(a, f) for a, several in REFUSED.items() for f in several]


@pytest.mark.parametrize(("anchor", "refused"), CASES, ids=[a for a, _ in CASES])
def test_a_refusal_names_the_page(anchor, refused):
    with pytest.raises(
        (weft.ChainError, weft.StepError, ValueError), match=f"see docs/limits.md#{anchor}"
    ):
        refused()


def test_a_refusal_names_a_heading_that_there_is():
    named = {a for text in SOURCE.values() for a in NAMED.findall(text)}
    assert named <= set(anchors())
    assert set(REFUSED) <= named


@pytest.mark.parametrize("anchor", anchors())
def test_a_heading_is_named_by_a_refusal_or_has_a_test_of_its_own(anchor):
    refused = any(f"limits.md#{anchor}" in text for text in SOURCE.values())
    assert refused or f"test_{anchor.replace('-', '_').replace('.', '')}" in globals()


# ---------------------------------------------------------------- what is done otherwise


def test_line_searches():
    assert not any("lbfgs" in name for name in weft.list_optimizers())


def test_devices():
    p = param(3, device="meta")
    opt = weft.AdamW([p])
    with pytest.warns(weft.WeftWarning, match="on meta"):
        opt.step()
    assert opt.explain().fallbacks


def test_sharded_parameters():
    whole, shard = param(4, 2), param(2, 2)
    chain = weft.chain(cb.clip_norm, cb.descend, lr=1.0)
    for p in (whole, shard):
        chain([p], max_norm=1.0).step()
    assert not torch.equal(whole[:2], shard)


def test_torchcompile():
    p, q = param(3), param(3)
    compiled, plain = weft.SGD([p], lr=0.1), weft.SGD([q], lr=0.1)
    torch.compile(compiled.step, backend="eager")()
    plain.step()
    assert torch.equal(p, q)


def test_cuda_graphs():
    p = param(3)
    weft.AdamW([p], capturable=True).step()  # on a CPU it changes nothing
    assert not torch.equal(p, torch.ones(3))


def test_foreach_and_fused():
    opt = weft.AdamW([param(3)], foreach=True, fused=True)
    assert opt.param_groups[0]["foreach"]
    assert opt.explain().phases == weft.AdamW([param(3)]).explain().phases


def test_the_same_bits():
    ours, theirs = param(3, 5), param(3, 5)
    for p, cls in ((ours, weft.AdamW), (theirs, torch.optim.AdamW)):
        cls([p], lr=0.1).step()
    torch.testing.assert_close(ours, theirs)


def test_memory_that_is_shared():
    base = torch.ones(4)
    a, b = torch.nn.Parameter(base[:3]), torch.nn.Parameter(base[1:])
    a.grad, b.grad = torch.ones(3), torch.ones(3)
    with pytest.warns(weft.WeftWarning, match="one parameter at a time"):
        weft.SGD([a, b], lr=0.5).step()
    assert base.tolist() == [0.5, 0.0, 0.0, 0.5]


def test_dtypes_of_state():
    p = param(3, dtype=torch.bfloat16)
    opt = weft.AdamW([p])
    opt.step()
    assert opt.state[p]["exp_avg"].dtype is torch.bfloat16


def test_a_step_for_each_parameter():
    small, large = param(1), param(100)
    for p in (small, large):
        weft.chain(cb.clip_global_norm, cb.descend, lr=1.0)([p], max_norm=1.0).step()
    torch.testing.assert_close(small.detach(), torch.zeros(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(large.detach(), torch.full((100,), 0.9), atol=1e-5, rtol=0)


def test_values_of_hypers():
    opt = weft.QHAdam([param(3)])
    with pytest.raises(ValueError, match="Invalid nus value"):
        opt.set_hyper("nus", (2.0, 1.0))
    opt.param_groups[0]["nus"] = (2.0, 1.0)
    opt.step()
