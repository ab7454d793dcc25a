"""Parameter policies: exclusions from decay, layer-wise rates, and routing to several chains."""

import copy
import io

import pytest
import torch
from torch import nn

import weft


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2)
        self.mlp = nn.Linear(width, width)


class GPT(nn.Module):
    """What a small language model registers, in that order."""

    def __init__(self, width=8, tied=False):
        super().__init__()
        self.wte = nn.Embedding(11, width)
        self.pos_embed = nn.Parameter(torch.randn(1, 4, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(3)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 11, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def no_weight_decay(self):
        return {"pos_embed"}


class ScaleNorm(nn.Module):
    """A normalisation of one's own, whose parameter is a matrix."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 2))


def names(groups):
    return [[n for n, _ in g["params"]] for g in groups]


def grads(model):
    torch.manual_seed(1)
    for p in model.parameters():
        p.grad = torch.randn_like(p)


# ---------------------------------------------------------------- param_groups


def test_biases_norms_and_what_the_model_says_do_not_decay():
    decayed, spared = weft.param_groups(GPT(), weight_decay=0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    kept = dict(decayed["params"])
    assert "wte.weight" in kept
    assert "lm_head.weight" in kept
    assert all(p.ndim >= 2 for p in kept.values())
    assert "pos_embed" in dict(spared["params"])
    assert {"blocks.0.norm.weight", "ln_f.bias", "blocks.1.mlp.bias"} <= set(dict(spared["params"]))


def test_every_parameter_is_in_one_group_once():
    for tied in (False, True):
        model = GPT(tied=tied)
        groups = weft.param_groups(model, layer_decay=0.5)
        found = [p for g in groups for _, p in g["params"]]
        assert len(found) == len({id(p) for p in found}) == len(list(model.parameters()))


def test_a_matrix_of_a_norm_of_ones_own_does_not_decay():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), ScaleNorm())
    assert names(weft.param_groups(model)) == [["0.weight"], ["1.scale"]]


@pytest.mark.parametrize(
    "no_decay",
    [
        "wte*",
        ["wte.weight"],
        [lambda n, p: n.startswith("wte")],
        lambda p: p.ndim == 2 and p.shape[0] == 11,
    ],
)
def test_further_exclusions(no_decay):
    decayed, spared = weft.param_groups(GPT(tied=True), no_decay=no_decay)
    assert "wte.weight" in dict(spared["params"])
    assert "blocks.0.mlp.weight" in dict(decayed["params"])


def test_layer_decay_lowers_the_rate_with_depth():
    model = GPT()
    groups = weft.param_groups(model, layer_decay=0.5, lr=1.0)
    rate = {n: g["lr"] for g in groups for n, _ in g["params"]}
    assert rate["lm_head.weight"] == rate["ln_f.weight"] == 1.0
    assert [rate[f"blocks.{i}.mlp.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert rate["wte.weight"] == rate["pos_embed"] == 0.0625
    torch.optim.AdamW(weft.param_groups(model, layer_decay=0.5, lr=1.0))  # torch takes them too


def test_layer_decay_without_a_rate_scales_the_optimizers():
    model = GPT()
    groups = weft.param_groups(model, layer_decay=0.5)
    opt = weft.AdamW(groups, lr=0.01)
    told = weft.param_groups(model, layer_decay=0.5, lr=0.01)
    assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in told]
    assert [g["weight_decay"] for g in opt.param_groups] == [g["weight_decay"] for g in told]
    assert "lr_scale" not in opt.param_groups[0]  # timm's schedulers would apply it once more
    extra = nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [("extra", extra)]})
    assert opt.param_groups[-1]["lr"] == 0.01


def test_layers_of_a_convolutional_net():
    order = ["conv1.w", "bn1.w", "layer1.0.w", "layer1.1.w", "layer2.0.w", "fc.w"]
    assert list(weft.policies.layer_of(order).values()) == [0, 0, 1, 2, 3, 4]
    assert list(weft.policies.layer_of(["0.w", "2.w"]).values()) == [1, 2]


def test_param_groups_print_as_a_table():
    lines = str(weft.param_groups(GPT(), weight_decay=0.1)).splitlines()
    assert lines[0].split() == ["group", "weight_decay", "tensors", "elements", "names"]
    assert len(lines) == 4
    assert "wte.weight" in lines[2]


# ---------------------------------------------------------------- route


def rules(**options):
    return {
        "hidden": weft.Muon.chain(lr=0.02, **options),
        "vector": weft.AdamW.chain(lr=1e-3, weight_decay=0.0),
        "*": weft.AdamW.chain(lr=2e-3),
    }


def test_hidden_matrices_go_to_muon_and_the_rest_elsewhere():
    hidden, vectors, rest = names(weft.route(GPT(), rules()))
    assert hidden == [
        n
        for i in range(3)
        for n in (
            f"blocks.{i}.attention.in_proj_weight",
            f"blocks.{i}.attention.out_proj.weight",
            f"blocks.{i}.mlp.weight",
        )
    ]
    assert set(rest) == {"pos_embed", "wte.weight", "lm_head.weight"}
    assert len(vectors) == 3 * 5 + 2


def test_a_tied_head_is_its_embedding():
    roles = weft.policies.role_of(GPT(tied=True))
    assert roles["wte.weight"] == "embedding"
    assert "lm_head.weight" not in roles
    assert roles["blocks.2.mlp.weight"] == "hidden"


def test_the_last_linear_is_the_head_and_a_last_convolution_is_not():
    mlp = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2))
    roles = weft.policies.role_of(mlp)
    assert [roles[f"{i}.weight"] for i in (0, 2, 3)] == ["hidden", "hidden", "head"]
    assert weft.policies.role_of(nn.Sequential(nn.Conv2d(3, 4, 3)))["0.weight"] == "hidden"


def test_the_first_rule_that_matches_decides():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    sgd, adamw = weft.SGD.chain(lr=0.1), weft.AdamW.chain()
    both = weft.route(net, {"1.*": sgd, lambda p: p.ndim == 2: adamw, lambda n, p: True: sgd})
    assert names(both) == [["1.weight", "1.bias"], ["0.weight"], ["0.bias"]]
    assert both[1]["cbs"] is adamw


def test_what_nothing_matches_is_an_error_with_names():
    with pytest.raises(weft.ChainError, match=r"0\.bias \(3,\), vector.*1\.bias"):
        weft.route(
            nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)),
            {"hidden": weft.SGD.chain(), "head": weft.SGD.chain()},
        )


def test_a_rule_must_be_a_glob_or_a_predicate():
    with pytest.raises(TypeError, match="a rule is"):
        weft.route(nn.Linear(2, 3), {3: weft.SGD.chain()})


def test_a_rule_that_matches_nothing_shows_in_the_table():
    groups = weft.route(nn.Linear(2, 3), {"embedding": weft.SGD.chain(), "*": weft.AdamW})
    assert len(groups) == 1
    table = str(groups).splitlines()
    assert table[2].split()[-2:] == ["0", "0"]
    assert table[3].startswith("*")


def test_classes_and_lists_of_callbacks_are_chains():
    net = nn.Linear(2, 3)
    groups = weft.route(net, {"*.nothing": weft.SGD, "*": [weft.callbacks.descend]})
    opt = weft.Optimizer(groups, lr=0.1)
    assert opt.param_groups[0]["lr"] == 0.1


def test_a_vector_sent_to_muon_is_refused_by_name():
    with pytest.raises(weft.ChainError, match=r"bias.*1.*route"):
        weft.Optimizer(weft.route(nn.Linear(2, 3), {"*": weft.Muon.chain()}))


# ---------------------------------------------------------------- one optimizer of several chains


def test_one_optimizer_steps_as_the_separate_ones():
    torch.manual_seed(0)
    model = GPT()
    twin = copy.deepcopy(model)
    groups = weft.route(model, rules())
    opt = weft.Optimizer(groups)
    assert [g["lr"] for g in opt.param_groups] == [0.02, 1e-3, 2e-3]
    assert [g["weight_decay"] for g in opt.param_groups] == [0.1, 0.0, 0.01]
    own = dict(twin.named_parameters())
    hidden, vectors, rest = ([own[n] for n in g] for g in names(groups))
    apart = [
        weft.Muon(hidden, lr=0.02),
        weft.AdamW(vectors, lr=1e-3, weight_decay=0.0),
        weft.AdamW(rest, lr=2e-3),
    ]
    for _ in range(3):
        grads(model)
        grads(twin)
        opt.step()
        for o in apart:
            o.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_state_dict_resumes_bit_for_bit():
    model = GPT()
    opt = weft.Optimizer(weft.route(model, rules()))
    grads(model)
    opt.step()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = GPT()
    again.load_state_dict(saved["model"])
    resumed = weft.Optimizer(weft.route(again, rules()))
    resumed.load_state_dict(saved["opt"])
    for m, o in ((model, opt), (again, resumed)):
        grads(m)
        o.step()
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_cycle_drives_every_chain():
    model = GPT()
    opt = weft.Optimizer(weft.route(model, rules()))
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(
        opt, max_lr=[0.2, 0.01, 0.02], total_steps=10, base_momentum=0.8, max_momentum=0.9
    )
    seen = []
    for _ in range(9):
        grads(model)
        opt.step()
        one_cycle.step()
        muon, vectors, _ = opt.param_groups
        seen.append((muon["lr"], vectors["lr"], muon["momentum"], vectors["betas"][0]))
        assert muon["lr"] == pytest.approx(20 * vectors["lr"])
        assert muon["momentum"] == pytest.approx(vectors["betas"][0])
    assert len(set(seen)) > 5
    assert "betas" not in muon
    assert "momentum" not in vectors


def test_hypers_reach_each_chain():
    opt = weft.Optimizer(weft.route(GPT(), rules()))
    opt.set_hypers(mom=0.7, wd=0.05, lr=slice(1e-3, 1e-1))
    assert [h["mom"] for h in opt.hypers] == [0.7] * 3
    assert opt.param_groups[0]["momentum"] == 0.7
    assert opt.param_groups[1]["betas"][0] == 0.7
    assert [g["weight_decay"] for g in opt.param_groups] == [0.05] * 3
