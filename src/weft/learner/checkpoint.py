"""A learner on disk and in memory: everything that decides what the next batch does."""

import copy
import os
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from weft.optimizer.checkpoint import cuda_rng, set_cuda_rng

if TYPE_CHECKING:
    from weft.learner.learner import Learner

__all__ = ["Snapshot", "load_learner", "rng_state", "save_learner", "set_rng_state"]

FORMAT = 1


def generators(loaders: Iterable[Any]) -> list[torch.Generator]:
    """The generators that the loaders shuffle with, each once."""
    found: dict[int, torch.Generator] = {}
    for loader in loaders:
        for owner in (loader, getattr(loader, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def rng_state(loaders: Iterable[Any] = ()) -> dict[str, Any]:
    """The state of every generator that training may draw from, in plain types.

    Args:
        loaders: data loaders, whose own generators are included.

    >>> state = rng_state()
    >>> a = torch.rand(1); set_rng_state(state); bool(a == torch.rand(1))
    True
    """
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "cuda": cuda_rng(),
        "python": random.getstate(),
        "loaders": [generator.get_state() for generator in generators(loaders)],
    }
    if numpy := sys.modules.get("numpy"):
        name, keys, *rest = numpy.random.get_state()
        state["numpy"] = (name, keys.tolist(), *rest)
    return state


def set_rng_state(state: dict[str, Any], loaders: Iterable[Any] = ()) -> None:
    """Put back what `rng_state` gave; generators that are not there any more are left out."""
    torch.set_rng_state(state["torch"].cpu())
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    for generator, saved in zip(generators(loaders), state["loaders"], strict=False):
        generator.set_state(saved.cpu())
    set_cuda_rng(state.get("cuda", []))
    if "numpy" in state and (numpy := sys.modules.get("numpy")):
        numpy.random.set_state(tuple(state["numpy"]))


class Snapshot:
    """A copy in memory of a learner's model, optimizer, modes and generators.

    Args:
        learn: the learner; `restore` puts everything back, as often as wanted.
    """

    def __init__(self, learn: "Learner"):
        self._learn = learn
        self._model = copy.deepcopy(learn.model.state_dict())
        self._buffers = {n: b.detach().clone() for n, b in learn.model.named_buffers()}
        self._opt = copy.deepcopy(learn.opt.state_dict())
        self._modes = [(module, module.training) for module in learn.model.modules()]
        self._rng = rng_state(learn.loaders)

    def restore(self) -> None:
        """Make the learner what it was; grads are cleared."""
        learn = self._learn
        learn.model.load_state_dict(self._model)
        with torch.no_grad():
            for name, buffer in learn.model.named_buffers():  # also those outside the state dict
                if name in self._buffers:
                    buffer.copy_(self._buffers[name])
        learn.opt.load_state_dict(copy.deepcopy(self._opt))
        learn.opt.zero_grad()
        for module, training in self._modes:
            module.training = training
        set_rng_state(self._rng, learn.loaders)


def save_learner(learn: "Learner", path: str | os.PathLike) -> Path:
    """Write model, optimizer, generators and position to `path`: all of it, or nothing.

    Args:
        learn: the learner.
        path: the file; its folder is made.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with learn.hypers_at_rest():
        content = {
            "weft_learner": FORMAT,
            "model": learn.model.state_dict(),
            "optimizer": learn.opt.state_dict(),
            "frozen_to": learn.frozen_to,
            "epochs_done": learn.epochs_done,
            "rng": rng_state(learn.loaders),
        }
        # written beside and renamed: a run that is killed here leaves the older file whole
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return path


def load_learner(learn: "Learner", path: str | os.PathLike, with_opt: bool = True) -> None:
    """Read what `save_learner` wrote.

    Args:
        learn: a learner with the same model and, for `with_opt`, the same optimizer.
        path: the file.
        with_opt: with False, only the model's weights.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the file is damaged, or no learner's.
        RuntimeError, ValueError: where model or optimizer do not fit, torch's own; the learner is
            then as it was before.
    """
    content = read_checked(Path(path), learn.device)
    before = Snapshot(learn)
    try:
        learn.model.load_state_dict(content["model"])
        if with_opt:
            learn.opt.load_state_dict(content["optimizer"])
    except Exception:
        before.restore()
        raise
    if not with_opt:
        return
    learn.opt.zero_grad()
    if learn.frozen_to != content["frozen_to"]:
        learn.set_frozen(content["frozen_to"])
    learn.epochs_done = content["epochs_done"]
    set_rng_state(content["rng"], learn.loaders)


def read_checked(path: Path, device: torch.device) -> dict[str, Any]:
    """The content of a learner's file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged, or not a file that save() wrote: {error}") from error
    if not isinstance(content, dict) or "weft_learner" not in content:
        raise ValueError(f"{path} is not a learner's file: save() writes those")
    if content["weft_learner"] != FORMAT:
        raise ValueError(
            f"{path} has format {content['weft_learner']}, this weft reads {FORMAT}: update weft"
        )
    return content
