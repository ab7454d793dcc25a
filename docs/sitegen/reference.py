"""The reference: what is public and neither an optimizer nor a block."""

import importlib
from typing import Any

import weft
from weft import callbacks, learner, wrappers

__all__ = ["REFERENCE", "documented", "pages", "path_of"]

# page -> its title, what it is about, the names of `weft` on it
REFERENCE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "optimizer": (
        "The optimizer",
        "What every optimizer is and takes; how it is made by name; groups for it.",
        ("Optimizer", "create", "list_optimizers", "param_groups", "route"),
    ),
    "chain": ("Chains", "A sequence of callbacks that makes optimizers.", ("chain", "Chain")),
    "callback": (
        "Declaring",
        "What a callback says by its defaults and its marks; see [the contract](../contract.md).",
        ("zeros", "ones", "copy_of_param", "state", "shared", "mark", "over_params", "rename"),
    ),
    "checkpoint": (
        "Checkpoints",
        "Files that are whole or not there; see [checkpoints and resume](../checkpoints.md).",
        ("save_checkpoint", "load_checkpoint"),
    ),
    "race": (
        "Races and paths",
        "Optimizers side by side, each at the best of the same search; see [races and paths](../race.md).",
        ("race", "path"),
    ),
    "errors": (
        "Errors and warnings",
        "Each names what was wrong, where, and what to do.",
        ("ChainError", "StepError", "StateError", "NonFiniteError", "WeftWarning"),
    ),
}
WITHOUT_MEMBERS = "\n    options:\n      members: false"
STATES = {  # objects, which have no docstring of their own
    "zeros": "Declares a state that starts as zeros of the parameter's shape: `exp_avg=weft.zeros`.",
    "ones": "Declares a state that starts as ones of the parameter's shape.",
    "copy_of_param": "Declares a state that starts as a copy of the parameter.",
}


def pages() -> dict[str, str]:
    """File -> Markdown."""
    out = {"reference/index.md": index()}
    for page, (title, about, names) in REFERENCE.items():
        out[f"reference/{page}.md"] = joined(
            title, about, [entry(getattr(weft, n), n) for n in names]
        )
    around = [entry(getattr(wrappers, n), n) + WITHOUT_MEMBERS for n in vars(wrappers)["__all__"]]
    out["reference/wrappers.md"] = joined(
        "Around a step",
        "Wrappers: what evaluates the gradient again, acts every k steps, or swaps weights for evaluation."
        " `weft.AdamW.chain() + weft.Lookahead(k=5)`.",
        [entry(weft.Wrapper, "Wrapper"), *around],
    )
    out["reference/learner.md"] = joined(
        "The Learner",
        "`weft.learner`: a small training loop (`pip install weft-optim[learner]`); `weft.Learner`.",
        [entry(getattr(learner, n), n) for n in sorted(learner.__all__)],
    )
    out["reference/fastai.md"] = joined(
        "fastai's callbacks",
        "`weft.callbacks.fastai`: the callbacks of fastai under their names, as"
        " [coming from fastai](../from_fastai.md) tells.",
        [entry(getattr(callbacks.fastai, n), n) for n in callbacks.fastai.__all__],
    )
    return out


def index() -> str:
    """Where each public name is."""
    lines = [
        "# Reference",
        "",
        "Everything that is public is `weft`'s, `weft.callbacks`'s or `weft.learner`'s. Optimizers have",
        "[a page each](../optimizers/index.md), blocks [a page a family](../vocabulary/index.md).",
        "",
        "| | |",
        "| --- | --- |",
    ]
    for page, (title, _, names) in REFERENCE.items():
        lines.append(f"| [{title}]({page}.md) | {', '.join(f'`weft.{n}`' for n in names)} |")
    around = ", ".join(f"`weft.{n}`" for n in ("Wrapper", *vars(wrappers)["__all__"]))
    lines.append(f"| [Around a step](wrappers.md) | {around} |")
    lines.append(
        f"| [The Learner](learner.md) | {', '.join(f'`{n}`' for n in sorted(learner.__all__))} |"
    )
    lines.append("| [fastai's callbacks](fastai.md) | `weft.callbacks.fastai` |")
    return "\n".join(lines) + "\n"


def joined(title: str, about: str, entries: list[str]) -> str:
    """A page."""
    return "\n\n".join([f"# {title}", about, *entries]) + "\n"


def path_of(thing: Any) -> str:
    """Where it is defined, which is how the site refers to it."""
    return f"{thing.__module__}.{thing.__qualname__}"


def entry(thing: Any, name: str) -> str:
    """The place of one name on its page."""
    if name in STATES:
        path = f"{importlib.import_module('weft.contract.declare').__name__}.{name}"
        return f"## {name} {{ #{path} }}\n\n{STATES[name]}"
    return f"::: {path_of(thing)}"


def documented(markdown: str) -> set[str]:
    """The paths that a page documents."""
    lines = markdown.splitlines()
    entries = {line.removeprefix("::: ") for line in lines if line.startswith("::: ")}
    return entries | {line.rpartition("#")[2].split()[0] for line in lines if "{ #weft." in line}
