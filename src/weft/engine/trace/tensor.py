"""The tensor that a callback gets: no numbers in it, but a storage whose value is a node.

Tensors that share memory share a `Storage`; each sees it through a chain of views. Reading applies
the views to the storage's value; writing goes back through them and gives the storage a new value.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.tracer import Tracer

__all__ = ["Storage", "TensorProxy", "View", "inverse_permutation"]


class Storage:
    """Memory: its value now, how often it was written, and why it may not be written.

    Attributes:
        lasting: it is the parameter's, its grad's or a state's, or what becomes one.
        era: how often the tensor on it was given other memory, by `.data = ...`.
        twin: the storage that it may share memory with, and that one's version then: torch would
            have copied or not, depending on strides, or `.data` was assigned.
    """

    __slots__ = ("era", "frozen", "lasting", "twin", "value", "version")

    def __init__(self, value: Node, frozen: str = "", lasting: bool = False):
        self.value, self.frozen, self.lasting = value, frozen, lasting
        self.version = self.era = 0
        self.twin: tuple[Storage, int] | None = None


class View:
    """How a view reads its base, and how what is written through it changes the base."""

    __slots__ = ("read", "write")

    def __init__(
        self, read: Callable[[Node], Node], write: Callable[[Node, Node], Node] | None = None
    ):
        self.read, self.write = read, write


@functools.lru_cache(maxsize=4096)
def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    with torch._C.DisableTorchFunction():
        return torch.empty(shape, dtype=dtype, device="meta")


INSIDE = next(vars(c)["__dict__"] for c in torch.Tensor.__mro__ if "__dict__" in vars(c)).__get__


class TensorProxy(torch.Tensor):
    """A stand-in for a tensor.

    `contig` says whether the real one is certain to be C-contiguous; `era` is None for the tensor
    that the storage belongs to, and for its aliases the storage's when they were made.
    """

    tracer: Tracer
    storage_: Storage
    views: tuple[View, ...]
    contig: bool
    owner: Any
    era: int | None
    _shape: tuple[int, ...]
    _dtype: torch.dtype

    @staticmethod
    def make(
        tracer: Tracer, storage: Storage, views: tuple[View, ...] = (), contig: bool = False,
        owner: Any = None, era: int | None = None,
    ) -> "TensorProxy":  # fmt: skip
        """A tensor on a storage."""
        node = storage.value
        for v in views:
            node = v.read(node)
        self = torch.Tensor._make_subclass(TensorProxy, _blank(node.shape or (), node.dtype))
        held = INSIDE(self)
        held["tracer"], held["storage_"], held["views"] = tracer, storage, views
        held["contig"], held["owner"], held["era"] = contig, owner, era
        held["_shape"], held["_dtype"] = node.shape, node.dtype
        return self  # type: ignore[return-value]

    @staticmethod
    def fresh(tracer: Tracer, node: Node, contig: bool = False) -> "TensorProxy":
        """A tensor with memory of its own."""
        return TensorProxy.make(tracer, Storage(node), (), contig or len(node.shape or ()) <= 1)

    def read(self) -> Node:
        """The value now."""
        storage = self.storage_
        self._see_that_it_holds()
        if storage.twin is not None and storage.twin[0].version != storage.twin[1]:
            if storage.frozen:
                raise Untraceable(f"it changes the base of {storage.frozen} in place")
            raise Untraceable(
                "it reads what may share memory with a tensor that was changed: after reshape() or "
                "contiguous() depending on strides, after `.data =` always"
            )
        node = storage.value
        for v in self.views:
            node = v.read(node)
        return node

    def write(self, node: Node) -> None:
        """Change the memory in place."""
        storage = self.storage_
        self._see_that_it_holds()
        if storage.frozen:
            raise Untraceable(f"it writes to {storage.frozen} in place")
        if storage.twin is not None:
            raise Untraceable(
                "it writes to what may share memory with another tensor: after reshape() or "
                "contiguous() depending on strides, after `.data =` always"
            )
        bases = [storage.value]
        for v in self.views:
            bases.append(v.read(bases[-1]))
        tracer = self.tracer
        node = tracer.expand(tracer.cast(node, self._dtype), self._shape)
        for v, base in zip(reversed(self.views), reversed(bases[:-1]), strict=True):
            if v.write is None:
                raise Untraceable("it writes in place to an expanded tensor")
            node = v.write(base, node)
        storage.value = node
        storage.version += 1

    def through(self, view: View, contig: bool = False) -> "TensorProxy":
        """A view of this tensor."""
        return self._alias((*self.views, view), contig)

    def _alias(self, views: tuple[View, ...], contig: bool) -> "TensorProxy":
        era = self.storage_.era if self.era is None else self.era
        return TensorProxy.make(self.tracer, self.storage_, views, contig, era=era)

    def _see_that_it_holds(self) -> None:
        """That a tensor's memory was not replaced since this alias was made."""
        if self.era not in (None, self.storage_.era):
            raise Untraceable("it uses what .data was before something was assigned to it")

    def become(self, view: "TensorProxy") -> None:
        """Be a view of this tensor from here on."""
        for name in ("storage_", "views", "contig", "_shape", "_dtype"):
            INSIDE(self)[name] = INSIDE(view)[name]

    # ------------------------------------------------------------ what needs no torch call

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """As torch.Tensor.shape."""
        return torch.Size(self._shape)

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """As torch.Tensor.ndim."""
        return len(self._shape)

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """As torch.Tensor.dtype; float32 for 16-bit storage."""
        return self._dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the parameter is."""
        return self.tracer.device

    @property
    def data(self) -> "TensorProxy":  # type: ignore[override]
        """The same memory."""
        return self._alias(self.views, self.contig)

    @data.setter
    def data(self, value: Any) -> None:
        """Other memory, which is the value's too: older aliases keep what they had."""
        storage = self.storage_
        if not isinstance(value, TensorProxy):
            raise Untraceable("it assigns a captured tensor to .data")
        node, source = value.read(), value.storage_
        if source is storage and value.views == self.views:
            return  # x.data *= 2
        if self.era is not None or self.views:
            raise Untraceable("it assigns to the .data of a view")
        if node.shape != self._shape or node.dtype is not self._dtype:
            raise Untraceable("it gives .data another shape or dtype")
        if storage.frozen:
            raise Untraceable(f"it rebinds the data of {storage.frozen}")
        if source.lasting or source.frozen or source.twin is not None:
            raise Untraceable("it assigns to .data what is another tensor's memory")
        storage.value = node
        storage.version += 1
        storage.era += 1
        source.twin = storage, storage.version

    @property
    def grad(self) -> Any:  # type: ignore[override]
        """The gradient of the parameter; None for any other tensor."""
        return self.owner.grad() if self.owner is not None else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if self.owner is None:
            raise Untraceable("it assigns to the .grad of a tensor that is not the parameter")
        self.owner.set_grad(value)

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        """As the parameter says; False for any other tensor."""
        return self.owner is not None and self.owner.requires_grad()

    @property
    def kind(self) -> type:
        """The class that a callback would find."""
        return torch.Tensor if self.owner is None else self.owner.kind

    @property
    def _is_param(self) -> bool:
        """What `isinstance(p, torch.nn.Parameter)` asks."""
        return self.kind is torch.nn.Parameter

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """Whether the parameter is on a GPU."""
        return self.tracer.device.type == "cuda"

    is_sparse = False  # type: ignore[assignment]
    is_complex = lambda self: False  # type: ignore[assignment]
    is_floating_point = lambda self: self._dtype.is_floating_point  # type: ignore[assignment]
    layout = torch.strided  # type: ignore[assignment]
    real = property(lambda self: self)  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("data", "grad"):
            object.__setattr__(self, name, value)
        else:
            raise Untraceable(f"it sets the attribute {name!r} of a tensor")

    def __getattr__(self, name: str) -> Any:
        if self.owner is not None and not name.startswith("__"):  # the user may have set one
            raise Untraceable(f"it looks for the attribute {name!r} of the parameter")
        raise AttributeError(f"'Tensor' object has no attribute {name!r}")

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """The attributes that a user has set: not for the stand-in of a parameter."""
        raise Untraceable("it looks at the attributes of a tensor")

    def __hash__(self) -> int:
        raise Untraceable("a tensor is used as a key")

    def __deepcopy__(self, memo: Any) -> "TensorProxy":
        return TensorProxy.fresh(self.tracer, self.read(), self.contig)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"<tensor {self.read()!r}>"

    def __format__(self, spec: str) -> str:
        raise Untraceable("a tensor is turned into text")

    __str__ = lambda self: format(self)  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tracer = next(a.tracer for a in (*args, *(kwargs or {}).values()) if type(a) is TensorProxy)
        return tracer.calls.torch(tracer, func, args, kwargs or {})


def inverse_permutation(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `dims`."""
    out = [0] * len(dims)
    for i, d in enumerate(dims):
        out[d] = i
    return tuple(out)
