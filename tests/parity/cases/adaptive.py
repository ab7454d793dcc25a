"""Adam's kin: more averages, other second moments, other rates; and schedule-free methods."""

import weft
from parity.case import Case

WD = {"weight_decay": 0.1}
BETAS = {"betas": (0.9, 0.95)}
BASE = {"lr": 0.02, **BETAS, **WD}
L2 = {"lr": 0.02, **BETAS, **WD}
MIX = {"lr": 0.02, "betas": (0.9, 0.95, 0.99), "alpha": 3.0, **WD}
TF = {"lr": 0.02, **WD, "momentum": 0.9}


def pnm_betas(hypers):
    """The reference has beta0 behind the other betas."""
    return {**hypers, "betas": (*hypers["betas"], 1.0)}


def cautious_decay(params, **hypers):
    """AdamW with its decay masked by the update."""
    chain = weft.AdamW.chain().without("weight_decay") + weft.callbacks.cautious_weight_decay
    return chain(params, **hypers)


def modified(modifier):
    """AdamW with a callback put where it belongs."""
    return lambda params, **hypers: (weft.AdamW.chain() + modifier)(params, **hypers)


CASES = [
    Case("Adam", "amsgrad", {**L2, "amsgrad": True}),
    Case("AdEMAMix", "ademamix", MIX),
    Case("AdEMAMix", "ademamix", {**MIX, "t_alpha": 20, "t_beta3": 20}),
    Case(
        "SimplifiedAdEMAMix",
        "simplified_ademamix",
        {"lr": 0.002, "betas": (0.9, 0.95), "alpha": 2.0, **WD},
    ),
    Case("Adan", "adan", {"lr": 0.02, "betas": (0.9, 0.92, 0.95), **WD}),
    Case("Adan", "adan", {"lr": 0.02, "betas": (0.9, 0.92, 0.95), **WD, "no_prox": True}),
    Case("AdaPNM", "adapnm", BASE, ref=pnm_betas(BASE), translate=pnm_betas),
    Case(
        "AdaPNM",
        "adapnm",
        {**BASE, "amsgrad": False},
        ref={**pnm_betas(BASE), "amsgrad": False},
        translate=pnm_betas,
    ),
    Case("MARS", "mars", {**BASE, "gamma": 0.1}),
    Case("GrokfastAdamW", "grokfast_adamw", {**BASE, "alpha": 0.9}),
    Case(
        "AdamW",
        "grokfast_adamw",
        {**BASE, "grok_alpha": 0.9},
        ref={**BASE, "alpha": 0.9},
        build=modified(weft.callbacks.grokfast),
    ),
    Case("EXAdam", "exadam", BASE),
    Case("CautiousAdamW", "cautious_adamw", BASE),
    Case("AdamW", "cautious_adamw", BASE, build=modified(weft.callbacks.cautious)),
    Case("AdamW", "cautious_decay_adamw", BASE, build=cautious_decay),
    Case("AdaBelief", "adabelief", {**BASE, "eps": 1e-8}),
    Case("Aida", "aida", {**L2, "k": 2}),
    Case("Yogi", "yogi", BASE),
    Case("ADOPT", "adopt", BASE),
    Case("ADOPT", "adopt", {**BASE, "clip": False}),
    Case("LaProp", "laprop", BASE),
    Case("ACProp", "acprop", {**BASE, "eps": 1e-8}),
    Case("AvaGrad", "avagrad", BASE),
    Case("Adai", "adai", {"lr": 0.1, "betas": (0.1, 0.95), **WD}),
    Case("Adai", "adai", {"lr": 0.1, "betas": (0.1, 0.95), **WD, "stable_weight_decay": True}),
    Case("FAdam", "fadam", BASE),
    Case("FAdam", "fadam", {**BASE, "eps": 1e-2, "power": 0.4}),
    Case("AdaBound", "adabound", {**BASE, "gamma": 0.1}),
    Case("AdaBound", "adabound", {**BASE, "gamma": 0.1, "amsbound": True}),
    Case("AdaMod", "adamod", {"lr": 0.02, "betas": (0.9, 0.95, 0.9), **WD}),
    Case("PAdam", "padam", L2),
    Case("PAdam", "padam", {**L2, "amsgrad": False, "partial": 0.4}),
    Case("SAdam", "sadam", L2),
    Case("AdamAtan2", "adam_atan2", {**BASE, "a": 1.27, "b": 0.9}),
    Case("DiffGrad", "diffgrad", BASE),
    Case("DualAdam", "dual_adam", {**L2, "switch_rate": 0.06}),
    Case("AdamG", "adamg", {"lr": 0.3, "betas": (0.9, 0.95, 0.9), **WD}),
    Case("AdamC", "adamc", {**BASE, "max_lr": 0.05}),
    Case("AdamD", "adamd", BASE),
    Case("AdaNorm", "adanorm", BASE),
    Case("RMSpropTF", "rmsprop_tf", TF),
    Case("RMSpropTF", "rmsprop_tf", {**TF, "centered": True, "decoupled_decay": True}),
    Case("RMSpropTF", "rmsprop_tf", {**TF, "lr_in_momentum": False}),
    Case("SWATS", "swats", {"lr": 0.02, **BETAS, **WD}),  # Adam throughout
    Case(  # and one that switches: one tensor, as two may settle in one step
        "SWATS",
        "swats",
        {"lr": 0.02, **BETAS, **WD, "eps": 0.01},
        shapes=((6, 4),),
    ),
    Case("BCOS", "bcos", {"lr": 0.02, **WD}),
    Case("BCOS", "bcos", {"lr": 0.02, **WD, "mode": "m"}),
    Case("BCOS", "bcos", {"lr": 0.02, **WD, "mode": "g"}),
    Case(
        "ScheduleFreeSGD",
        "schedulefree_sgd",
        {"lr": 0.1, "momentum": 0.9, **WD, "warmup_steps": 5, "r": 1.0},
        matched=True,
    ),
    Case("ScheduleFreeAdamW", "schedulefree_adamw", {**BASE, "warmup_steps": 5}, matched=True),
    Case("ScheduleFreeAdamW", "schedulefree_adamw", {**BASE, "r": 0.5}, matched=True),
    Case("ScheduleFreeRAdam", "schedulefree_radam", BASE, matched=True),
    Case(
        "ScheduleFreeRAdam",
        "schedulefree_radam",
        {**BASE, "silent_sgd_phase": False},
        matched=True,
    ),
]
