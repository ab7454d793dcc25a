"""Two of a kind: what a step does once, a modifier does instead of the chain's own block, or is refused."""

import functools

import pytest
import torch

import weft
from weft import callbacks as cb
from weft.callback import ROLES, read
from weft.cli.catalog import take_step
from weft.optimizers import algorithms

DECAYS = [
    cb.weight_decay, cb.l2, cb.cautious_weight_decay, cb.corrected_decay, cb.decay_update,
    cb.proximal_decay, cb.decay_by_shape, cb.decay_matrices, cb.fastai.weight_decay, cb.fastai.l2_reg,
]  # fmt: skip
CHAINS = ["adamw", "adam", "sgd", "adan", "lamb", "lion", "adamc", "apollo", "soap", "sgdp", "muon"]


def param(*shape, grad=0.0):
    p = torch.nn.Parameter(torch.ones(shape))
    p.grad = torch.full(shape, grad)
    return p


def decays_of(names):
    """The elements of a chain that decay, as their hyper says."""
    return [n for n in names if {"weight_decay", "wd"} & set(vocabulary(n).args.values())]


def vocabulary(name):
    return read(getattr(cb, name, None) or getattr(cb.fastai, name))


@pytest.mark.parametrize("modifier", DECAYS, ids=lambda m: f"{m.__module__[-6:]}.{m.__name__}")
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_with_another_decay_decays_once(name, modifier):
    chain = algorithms()[name].chain() + modifier
    callbacks = [n for n in chain.names if hasattr(cb, n) or hasattr(cb.fastai, n)]
    try:
        chain([param(3, 2)])
        said = ""
    except weft.ChainError as e:
        said = str(e)
    refused = "docs/limits.md#two-of-a-kind" in said or "nothing provides" in said
    assert refused if said else decays_of(callbacks) == [modifier.__name__]


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize(
    ("modifier", "left"),
    [
        (cb.weight_decay, 1 - 0.1 * 0.5),
        (cb.decay_update, 1 - 0.1 * 0.5),
        (cb.proximal_decay, 1 / (1 + 0.1 * 0.5)),
        (functools.partial(cb.corrected_decay, max_lr=0.1), 1 - 0.1 * 0.5),
        (functools.partial(cb.weight_decay, weight_decay=0.25), 1 - 0.1 * 0.25),
    ],
)
def test_the_decay_is_the_modifiers(modifier, left, engine):
    p = param(3, 2)
    chain = weft.AdamW.chain(lr=0.1, weight_decay=0.5) + modifier
    chain([p], engine=engine).step()
    torch.testing.assert_close(p.detach(), torch.full((3, 2), left))


def test_explain_says_what_took_whose_place():
    chain = weft.AdamW.chain() + cb.cautious_weight_decay
    said = "cautious_weight_decay takes the place of weight_decay"
    assert chain.replaced == (said,)
    opt = chain([param(2)])
    for plan in (chain.explain(), opt.explain()):
        assert plan.replaced == [said]
        assert said in str(plan)
    grouped = weft.Optimizer([{"params": [param(2)], "cbs": chain}])
    assert grouped.explain().replaced == [said]


@pytest.mark.parametrize(
    ("base", "modifier", "names"),
    [
        (weft.AdamW, cb.rectify, ("weight_decay", "ema", "ema_sq", "debias", "rectify", "descend")),
        (weft.Adam, cb.nesterov_debias,
         ("l2", "ema", "ema_sq", "nesterov_debias", "precondition", "descend")),
        (weft.AdamW, cb.debias, weft.AdamW.chain().names),
        (weft.AdamW, cb.descend, weft.AdamW.chain().names),
        (weft.CautiousAdamW, cb.cautious, weft.CautiousAdamW.chain().names),
        (weft.AdamW, cb.hyperball,
         ("weight_decay", "ema", "ema_sq", "debias", "precondition", "hyperball")),
    ],
)  # fmt: skip
def test_what_has_the_same_role_stands_where_the_old_one_stood(base, modifier, names):
    assert (base.chain() + modifier).names == names


@pytest.mark.parametrize(
    ("base", "modifier"),
    [
        (weft.AdaBound, cb.descend),  # its rate is in the update already
        (weft.AdamW, cb.bound_rate),
        (weft.AdamW, cb.subtract),
        (weft.AdamW, cb.correct_bias),
        (weft.SOAP, cb.weight_decay),  # descend_late decays too
        (weft.LARS, cb.l2),
    ],
)
def test_what_does_more_than_a_modifier_stays_and_the_modifier_is_refused(base, modifier):
    with pytest.raises(weft.ChainError, match="have one role in this chain"):
        (base.chain() + modifier)([param(3, 2)])


@pytest.mark.parametrize(
    "cbs",
    [
        [cb.weight_decay, cb.l2, cb.descend],
        [cb.weight_decay, cb.weight_decay, cb.descend],
        [cb.descend, cb.descend],
        [cb.ema, cb.debias, cb.debias, cb.descend],
        [cb.fastai.weight_decay, cb.fastai.l2_reg, cb.fastai.sgd_step],
    ],
)
def test_a_list_with_two_of_a_kind_is_refused(cbs):
    for build in (
        lambda p: weft.Optimizer([p], cbs, lr=0.1),
        lambda p: weft.chain(*cbs, lr=0.1)([p]),
        lambda p: weft.Optimizer([{"params": [p], "cbs": cbs, "lr": 0.1}]),
    ):
        with pytest.raises(weft.ChainError, match=r"docs/limits\.md#two-of-a-kind"):
            build(param(2))
    with pytest.raises(weft.ChainError, match="'decay', which would be done twice"):
        weft.AdamW.chain().insert(cb.l2, before="ema")([param(2)])


def test_two_decays_on_purpose_have_a_hyper_each():
    second = weft.rename(cb.l2, weight_decay="l2")
    p = param(2)
    opt = weft.chain(cb.weight_decay, second, cb.descend, lr=0.1, weight_decay=0.5, l2=0.25)([p])
    opt.step()
    torch.testing.assert_close(p.detach(), torch.full((2,), 0.95 - 0.1 * 0.25 * 0.95))


def test_ones_own_decay_is_one_too():
    def shrink(p, lr, weight_decay=0.5):
        return {"p": p * (1 - lr * weight_decay)}

    def halve(update):
        return {"update": update / 2}

    chain = weft.AdamW.chain(lr=0.1, weight_decay=0.5) + shrink + halve + halve
    assert "weight_decay" not in chain.names
    assert chain.names.count("halve") == 1
    p = param(2)
    chain([p]).step()
    torch.testing.assert_close(p.detach(), torch.full((2,), 0.95))


def test_objects_and_closures_of_one_kind_are_not_one_callback():
    def times(x):
        def scale(update):
            return {"update": update * x}

        return scale

    p = param(2, grad=1.0)
    (weft.SGD.chain(lr=1.0) + times(0.5) + times(0.25))([p]).step()
    assert p.tolist() == [0.875, 0.875]


def test_a_role_is_one_of_those():
    with pytest.raises(weft.ChainError, match="role must be"):
        weft.mark(role="decoy")
    assert {r for n in cb.__all__ for r in getattr(getattr(cb, n), "role", ())} <= set(ROLES)


# ---------------------------------------------------------------- one name, several values


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_modifiers_with_one_hyper_name_keep_their_own_values(engine):
    spec = "adamw+clip_norm(max_norm=1)+clip_global_norm(max_norm=5)+adapt_norm(eps=1e-3)"
    opt = weft.create(spec, [param(3, 2, grad=1.0)], engine=engine)
    group = opt.param_groups[0]
    assert (group["max_norm"], group["clip_global_norm_max_norm"]) == (1, 5)
    assert (group["eps"], group["adapt_norm_eps"]) == (1e-8, 1e-3)
    opt.step()


def test_so_do_partials_in_chains_of_every_making():
    adapt = functools.partial(cb.adapt_norm, eps=1e-3)
    for chain in (
        weft.AdamW.chain() + adapt,
        weft.chain(adapt, weft.AdamW.chain()),
        weft.AdamW.chain().insert(adapt, before="ema"),
    ):
        group = chain([param(3, 2)]).param_groups[0]
        assert (group["eps"], group["adapt_norm_eps"]) == (1e-8, 1e-3)


def test_a_value_that_nobody_else_reads_is_the_groups():
    opt = weft.create("adamw+cautious_weight_decay(weight_decay=0.3)", [param(2)])
    assert opt.param_groups[0]["weight_decay"] == 0.3
    assert (
        weft.create("sgd+clip_norm(max_norm=2)", [param(2)], max_norm=3).param_groups[0]["max_norm"]
        == 3
    )


def test_chains_that_read_one_hyper_with_two_values_are_refused():
    one = weft.chain(cb.clip_norm, max_norm=1.0)
    two = weft.chain(cb.clip_global_norm, cb.descend, max_norm=5.0, lr=0.1)
    for join in (lambda: one + two, lambda: weft.chain(one, two)):
        with pytest.raises(weft.ChainError, match=r"read 'max_norm', 1\.0 and 5\.0"):
            join()
    assert weft.chain(one, two, max_norm=2.0).defaults["max_norm"] == 2.0


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("adamw+clip_norm(max_nrom=1)", "did you mean 'max_norm'"),
        ("adamw+weight_decay+l2", "two of a kind"),
        ("adamw+lookahead(k=5)+lookahead(k=10)", "two of a kind"),
        ("adamw+swa+weightema", "other weights to evaluate with"),
        ("schedulefreesgd+swa", "other weights to evaluate with"),
        ("adamw+sam+asam", "a gradient of another point"),
        ("adamw+param_rms", r"param_rms .* takes a hyper 'eps' such as \(None, 0.001\)"),
        ("adafactor+adapt_norm", "adapt_norm .* takes a hyper 'eps' such as 1e-08"),
        ("adamw+add_slow_average", r"takes a hyper 'betas' such as \(0.9, 0.999, 0.9999\)"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(spec, why):
    with pytest.raises(weft.ChainError, match=why):
        weft.create(spec, [param(3, 2)])


# ---------------------------------------------------------------- wrappers


def test_a_wrapper_takes_the_place_of_one_of_its_class():
    opt = weft.create("ranger+lookahead(k=3)", [param(2)])
    assert [w.options["k"] for w in opt._wrappers] == [3]
    assert opt.explain().replaced == ["lookahead takes the place of lookahead"]


def test_two_wrappers_of_one_class_are_refused():
    opt = weft.Lookahead(weft.AdamW([param(2)]))
    for wrap in (weft.Lookahead, functools.partial(weft.Lookahead, k=3)):
        with pytest.raises(weft.ChainError, match=r"see docs/limits\.md#two-of-a-kind"):
            wrap(opt)
    assert len(opt._wrappers) == 1


def test_the_same_wrapper_of_several_groups_is_one():
    groups = [{"params": [param(2)], "cbs": weft.Ranger.chain()} for _ in range(2)]
    assert len(weft.Optimizer(groups)._wrappers) == 1
    groups[1]["cbs"] = weft.Ranger.chain() + weft.Lookahead(k=3)
    with pytest.raises(weft.ChainError, match="Lookahead and Lookahead"):
        weft.Optimizer(groups)


# ---------------------------------------------------------------- everything on everything

# callback -> why its first step on another chain than its own may fail, in words
ELSEWHERE = {
    "late_step": "its chain counts from 0, where others divide by what has been counted",
    "aggregate": "its k is which of the betas it takes, and Aida's k is how often it projects",
}
OTHER_SPACE = ("apollo", "apollomini", "fira", "galoreadamw", "conda")  # states of low rank
COUNT_FROM_ZERO = tuple(n for n, c in algorithms().items() if "late_step" in c.chain().names)
MODIFIERS = [n for n in cb.__all__ if n != "fastai"]
FAST = ("adamw", "adafactor", "psgdkron", "schedulefreeadamw")


@pytest.mark.filterwarnings("ignore::weft.WeftWarning")  # of chains that can hardly be meant
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in algorithms()]
)
def test_any_block_on_any_chain_steps_or_is_refused_when_built(name):
    """No first step ends in an IndexError or a TypeError, which are mistakes of building."""
    wrong = []
    for modifier in MODIFIERS:
        p = param(4, 3, grad=0.5)
        try:
            opt = (algorithms()[name].chain() + getattr(cb, modifier))([p], engine="eager")
        except (weft.ChainError, ValueError):
            continue
        except TypeError as e:  # AdamC's max_lr follows lr, that of Polyak's rate is a number
            if "is of another kind" not in str(e):
                raise
            continue
        try:
            take_step(opt, [p])
        except weft.StepError as e:
            excused = modifier in ELSEWHERE or name in (*OTHER_SPACE, *COUNT_FROM_ZERO)
            if isinstance(e.__cause__, IndexError | TypeError) or not excused:
                wrong.append((modifier, str(e)[:200]))
    assert wrong == []
