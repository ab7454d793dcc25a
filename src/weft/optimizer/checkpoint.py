"""Checkpoints on disk: whole or not there, the last few kept, nothing in them executed."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from weft.errors import StateError

__all__ = ["cuda_rng", "load_checkpoint", "save_checkpoint", "set_cuda_rng"]

PARTS = ("model", "optimizer", "scheduler")


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    extra: Any = None,
    keep: int = 1,
) -> Path:
    """Write a checkpoint so that `path` is always a complete one, whenever the process dies.

    It is written to a temporary file beside `path`, synced, and renamed. The states of torch's
    generators, of the CPU and of GPUs, are saved too, so that what draws random numbers resumes exactly.

    Args:
        path: the file; with the ending ".safetensors" it is written in that format (extra
            `weft-optim[safetensors]`), otherwise with `torch.save`.
        model, optimizer, scheduler: what has a `state_dict()`.
        extra: anything made of tensors, numbers, strings, lists, tuples and dicts.
        keep: how many checkpoints to keep: `path`, then `path` with .1, .2, ... for older ones.

    Returns:
        The path.

    Raises:
        OSError: where it cannot be written; the last checkpoint is as it was.

    >>> import tempfile, torch, weft
    >>> model = torch.nn.Linear(2, 1); opt = weft.AdamW(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = weft.save_checkpoint(folder + "/last.pt", model=model, optimizer=opt, extra={"epoch": 3})
    ...     weft.load_checkpoint(path, model=model, optimizer=opt)
    {'epoch': 3}
    """
    path = Path(path)
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    content: dict[str, Any] = {k: v.state_dict() for k, v in given.items() if v is not None}
    content |= {"extra": extra, "rng": torch.get_rng_state(), "cuda_rng": cuda_rng()}
    write = _write_safetensors if ".safetensors" in path.name else torch.save
    _atomically(path, lambda temporary: write(content, temporary), keep)
    return path


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    map_location: Any = None,
) -> Any:
    """Load what `save_checkpoint` wrote; all of it is read and checked before anything changes.

    Args:
        path: the file.
        model, optimizer, scheduler: what takes its part of the checkpoint.
        map_location: where tensors go, as in `torch.load`.

    Returns:
        `extra`, as it was saved.

    Raises:
        StateError: for a damaged file, or one that lacks a part that is asked for, or whose model
            does not fit. Nothing has been loaded then.
    """
    content = _read(Path(path), map_location)
    wanted = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    for part, target in wanted.items():
        if target is not None and part not in content:
            held = [p for p in PARTS if p in content]
            raise StateError(f"{path} has no {part!r}; it holds {held}")
    if model is not None:
        _check_model(path, model, content["model"])
    if optimizer is not None:
        optimizer.load_state_dict(content["optimizer"])
    if model is not None:
        model.load_state_dict(content["model"])
    if scheduler is not None:
        scheduler.load_state_dict(content["scheduler"])
    torch.set_rng_state(content["rng"].cpu())
    set_cuda_rng(content.get("cuda_rng", []))
    return content.get("extra")


def cuda_rng() -> list[torch.Tensor]:
    """The state of each GPU's generator; none where no GPU is in use."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.cuda.get_rng_state_all() if in_use else []


def set_cuda_rng(states: list[torch.Tensor]) -> None:
    """Put back what `cuda_rng` gave; of GPUs that are not there any more it is left out."""
    for device, state in zip(range(torch.cuda.device_count()), states, strict=False):
        torch.cuda.set_rng_state(state.cpu(), device)


def _check_model(path: Any, model: Any, saved: Mapping[str, Any]) -> None:
    """Refuse a model's state that does not fit, before the optimizer's is loaded."""
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(saved)) + [
        f"{k} {tuple(saved[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in saved and isinstance(own[k], torch.Tensor) and own[k].shape != saved[k].shape
    ]
    if wrong:
        raise StateError(f"{path} is of another model: {', '.join(wrong[:6])}")


# ---------------------------------------------------------------- files


def _atomically(path: Path, write: Callable[[Any], Any], keep: int) -> None:
    """Write beside `path`, sync, and rename; older ones move one place on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        _move_on(path, keep)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _move_on(path: Path, keep: int) -> None:
    """Make room for a new `path`: a link to it becomes .1, .1 becomes .2, and so on."""
    if keep <= 1 or not path.exists():
        return
    for i in range(keep - 2, 0, -1):
        older = path.with_name(f"{path.name}.{i}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{i + 1}"))
    first = path.with_name(f"{path.name}.1")
    first.unlink(missing_ok=True)
    os.link(path, first)  # `path` itself stays where it is until the new one replaces it


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        if ".safetensors" in path.name:
            content = _read_safetensors(path, map_location)
        else:
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as e:
        raise StateError(f"{path} cannot be read as a checkpoint: {type(e).__name__}: {e}") from e
    if not isinstance(content, dict) or "rng" not in content:
        raise StateError(f"{path} is not a checkpoint that weft.save_checkpoint wrote")
    return content


# ---------------------------------------------------------------- safetensors


def _write_safetensors(content: dict[str, Any], path: str) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_flatten(content, "", tensors))
    save_file(
        {k: t.detach().clone().contiguous() for k, t in tensors.items()}, path, {"tree": tree}
    )


def _read_safetensors(path: Path, map_location: Any) -> Any:
    from safetensors import safe_open

    with safe_open(str(path), "pt", device=str(map_location or "cpu")) as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118  (it is not a dict)
        return _unflatten(json.loads((f.metadata() or {})["tree"]), tensors)


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """A tree as JSON: tensors by their names, tuples and dicts tagged so that they come back."""
    if isinstance(value, torch.Tensor):
        order = sorted(range(value.ndim), key=lambda d: -value.stride(d))
        tensors[name] = value.permute(order)
        if order == sorted(order):
            return {"tensor": name}
        return {"permuted": [name, order]}  # the format has no strides, and sums follow them
    if isinstance(value, Mapping):
        return {
            "dict": [[k, _flatten(v, f"{name}.{k}".strip("."), tensors)] for k, v in value.items()]
        }
    if isinstance(value, list | tuple):
        items = [_flatten(v, f"{name}.{i}".strip("."), tensors) for i, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(
        f"{name}: a checkpoint holds tensors, numbers and strings, not {type(value).__name__}"
    )


def _unflatten(tree: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "permuted":
        name, order = value
        return tensors[name].permute([order.index(d) for d in range(len(order))])
    if kind == "dict":
        return {k: _unflatten(v, tensors) for k, v in value}
    if kind in ("list", "tuple"):
        items = [_unflatten(v, tensors) for v in value]
        return tuple(items) if kind == "tuple" else items
    return value
