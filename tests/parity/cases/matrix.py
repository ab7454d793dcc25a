"""What treats a parameter as a matrix: orthogonalised, spectral, low rank, Kronecker."""

import torch

from parity.case import Case

MATRICES = ((6, 4), (4, 6), (5, 5), (3, 2, 2, 2))
FLAT = MATRICES[:3]
MUON = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}


def betas(hypers):
    """`momentum` and `beta2` as the references' betas."""
    hypers = dict(hypers)
    if hypers.pop("preserve_norm", False):
        hypers["update_scale"] = "preserve_norm"
    if "momentum" in hypers or "beta2" in hypers:
        hypers["betas"] = (hypers.pop("momentum", 0.9), hypers.pop("beta2", 0.95))
    return hypers


def momentum(hypers):
    """A single beta as the reference's momentum."""
    hypers = dict(hypers)
    if "betas" in hypers:
        hypers["momentum"] = hypers.pop("betas")[0]
    return hypers


def muon_beta2(hypers):
    """NorDion2's second decay under the reference's name."""
    hypers = dict(hypers)
    if "beta2" in hypers:
        hypers["muon_beta2"] = hypers.pop("beta2")
    return hypers


def alpha(hypers):
    """Scion's momentum as the reference has it: the weight of the new gradient."""
    hypers = dict(hypers)
    if "momentum" in hypers:
        hypers["momentum"] = 1 - hypers["momentum"]
    return hypers


def same_draws(opt, ref):
    """Both draw the same numbers, in the same order: weft from torch's generator."""
    gen = torch.Generator().manual_seed(5)
    ref.h.draw = lambda shape: torch.randn(shape, generator=gen, dtype=torch.float64)
    ref.init()
    torch.manual_seed(5)


LOW = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1}
GAP = {"update_proj_gap": 7}
ANY = (*MATRICES, (5,), ())


SQUARES = ((5, 5), (4, 4), (3, 3, 3), (5,), ())
SHAMPOO = {"lr": 0.02, "eps": 1e-4, "weight_decay": 0.1, "precondition_frequency": 3}
DISTRIBUTED = {**SHAMPOO, "betas": (0.9, 0.99), "graft_beta2": 0.98}
SOAP = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1, "precondition_frequency": 3}


KL = ((5, 5), (4, 4), (4, 2, 2))


KRON = {"lr": 0.02, "betas": (0.9,), "weight_decay": 0.1, "precondition_lr": 0.2}
SPLUS = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1, "inverse_steps": 4}


def probability(hypers):
    """A constant probability as the reference's function of the step."""
    hypers = momentum(hypers)
    if "update_probability" in hypers:
        hypers["update_probability"] = lambda t, q=hypers["update_probability"]: q
    return hypers


def case(name, reference, hypers, shapes=MATRICES, translate=dict, more=None, **options):
    ref = {**translate(hypers), **(more or {})}
    return Case(name, reference, hypers, ref=ref, translate=translate, shapes=shapes, **options)


CASES = [
    case("Muon", "muon", MUON, FLAT),
    case("Muon", "muon", {**MUON, "nesterov": False}, FLAT),
    case("Muon", "muon", {**MUON, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}, FLAT),
    case("MuonPolarExpress", "muon_polar_express", MUON),
    case("MuonClip", "muonclip", MUON),
    case("NorMuon", "normuon", MUON, translate=betas),
    case(
        "NorMuon",
        "normuon",
        {**MUON, "nesterov": True, "polar_express": True},
        translate=betas,
    ),
    case("NorMuon", "normuon", {**MUON, "preserve_norm": True}, translate=betas),
    case("AdaMuon", "adamuon", MUON, translate=betas),
    case("AdaMuon", "adamuon", {**MUON, "sign": False}, translate=betas),
    case(
        "MarsMuon",
        "mars_muon",
        {"lr": 0.02, "weight_decay": 0.1, "betas": (0.9,), "gamma": 0.05},
        translate=momentum,
    ),
    case("MuonH", "muonh", {"lr": 0.02, "momentum": 0.9}),
    case("MuonLaProp", "muon_laprop", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    case("AdaGO", "adago", {**MUON, "gamma": 3.0}),
    case("NAMO", "namo", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    case("SpectralDescent", "spectral_descent", {"lr": 0.02, "weight_decay": 0.1}),
    case("SpectralDescent", "spectral_descent", {"lr": 0.02, "dual_norm": False}),
    case("PolarGrad", "polargrad", MUON),
    case("SPEL", "spel", MUON),
    case("SWAN", "swan", {"lr": 0.02}),
    case("SWAN", "swan", {"lr": 0.02, "rescale": False}),
    case("RACS", "racs", {"lr": 0.02, "beta": 0.9}),
    case("Scion", "scion", {"lr": 0.02, "momentum": 0.9}, (*MATRICES, (5,), ()), alpha),
    case("Scion", "scion", {"lr": 0.02, "momentum": 0.9, "norm": "sign"}, FLAT, alpha),
    case("Scion", "scion", {"lr": 0.02, "momentum": 0.9, "norm": "col"}, FLAT, alpha),
    case("Scion", "scion", {"lr": 0.02, "momentum": 0.9, "norm": "row"}, FLAT, alpha),
    case(
        "Scion",
        "scion",
        {"lr": 0.02, "momentum": 0.9, "constrained": False, "normalized": False, "scale": 3.0},
        translate=alpha,
    ),
    case(
        "ScionLight", "scion_light", {"lr": 0.02, "momentum": 0.9}, translate=alpha, schedule=None
    ),
    case("GaLoreAdamW", "galore_adamw", {**LOW, **GAP, "rank": 2}, ANY),
    case("Fira", "fira", {**LOW, **GAP, "rank": 2, "scale": 0.7}, ANY),
    case("APOLLO", "apollo", {**LOW, **GAP, "rank": 2, "scale": 3.0}, ANY, prepare=same_draws),
    case("APOLLOMini", "apollo_mini", {**LOW, **GAP}, ANY, prepare=same_draws),
    case("Conda", "conda", {**LOW, **GAP, "scale": 0.7}, ANY),
    case("Dion", "dion", {**MUON, "rank": 3}, prepare=same_draws),
    case("Dion2", "dion2", {**MUON, "fraction": 0.4}),
    case("Dion2", "dion2", {**MUON, "fraction": 0.4, "adjust_lr_fn": "match_rms_adamw"}),
    case("NorDion2", "nordion2", {**MUON, "fraction": 0.4, "beta2": 0.9}, translate=muon_beta2),
    case("Shampoo", "shampoo", SHAMPOO, ANY),
    case("Shampoo", "shampoo", {**SHAMPOO, "momentum": 0.9, "graft": "sgd"}, ANY),
    case("Shampoo", "shampoo", {**SHAMPOO, "momentum": 0.9, "graft": "adagrad"}, ANY),
    case("Shampoo", "shampoo", {**SHAMPOO, "graft": "adagrad"}, ANY),
    case("DistributedShampoo", "distributed_shampoo", DISTRIBUTED, ANY),
    case("DistributedShampoo", "distributed_shampoo", {**DISTRIBUTED, "graft": None}, ANY),
    case(
        "DistributedShampoo",
        "distributed_shampoo",
        {**DISTRIBUTED, "start_preconditioning_step": 5},
        ANY,
    ),
    case("SOAP", "soap", SOAP, SQUARES),
    case("SOAP", "soap", {**SOAP, "shampoo_beta": 0.9}, SQUARES),
    case("HeavySOAP", "heavy_soap", SOAP, SQUARES),
    case("SOLP", "soap_laprop", SOAP, SQUARES),
    case("SOAPAdEMAMix", "soap_ademamix", {**SOAP, "betas": (0.9, 0.95, 0.99)}, SQUARES),
    case("KLShampoo", "kl_shampoo", SOAP, KL),
    case("KLSOAP", "kl_soap", {**SOAP, "shampoo_beta": 0.9}, KL),
    case("KLSOAP", "kl_soap", {**SOAP, "correct_bias": True}, KL),
    case("SPlus", "splus", {**SPLUS, "ema_rate": 0.9}, (*SQUARES, (3, 2, 2)), matched=True),
    case("PSGDKron", "psgd_kron", KRON, ANY, probability, prepare=same_draws),
    case(
        "PSGDKron",
        "psgd_kron",
        {**KRON, "update_probability": 1 / 3, "max_size_triangular": 5},
        ANY,
        probability,
        prepare=same_draws,
    ),
    # where a square matrix becomes singular along the bisection, its polar factor jumps
    case(
        "SpectralSphere",
        "spectral_sphere",
        {"lr": 0.02, "momentum": 0.9},
        ((6, 4), (4, 6), (3, 2, 2, 2)),
    ),
    case(  # the product of momenta is float32, as in torch's NAdam
        "SOAPNAdam", "soap_nadam", SOAP, SQUARES, rtol=1e-6
    ),
]
