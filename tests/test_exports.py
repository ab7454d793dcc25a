"""A name is listed once, in its module; a constructor says once what is its own."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import torch

import weft
from weft.optimizers import Algorithm, algorithms

OF_ALL = {"engine": "auto", "on_nonfinite": "keep", "state_dtype": None, "capturable": False}


def listed(package):
    """The names in the lists of a package's modules."""
    modules = [m.name for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    return {
        name
        for module in modules
        if module != "weft.callbacks.fastai"  # a namespace of its own
        for name in importlib.import_module(module).__all__
    }


@pytest.mark.parametrize("package", [weft.callbacks, weft.optimizers, weft.wrappers])
def test_a_package_exports_what_its_modules_list(package):
    assert set(package.__all__) - {"fastai"} == listed(package)
    assert len(package.__all__) == len(set(package.__all__))
    assert all(not inspect.ismodule(getattr(package, n)) for n in listed(package))


def test_weft_has_every_optimizer_and_wrapper():
    named = {cls.__name__ for cls in algorithms().values()}
    assert named | set(weft.wrappers.__all__) <= set(weft.__all__)
    assert all(hasattr(weft, name) for name in weft.__all__)
    assert weft.chain is importlib.import_module("weft.chain").chain


@pytest.mark.parametrize("cls", algorithms().values(), ids=lambda c: c.__name__)
def test_a_signature_shows_the_keywords_that_every_optimizer_takes(cls):
    for signature in (inspect.signature(cls), inspect.signature(cls.__init__)):
        every = [signature.parameters[name] for name in OF_ALL]
        assert {p.name: p.default for p in every} == OF_ALL
        ours = (
            p for p in every if p.name != "capturable"
        )  # torch takes that by place in two of its own
        assert all(p.kind is p.KEYWORD_ONLY for p in ours)


def test_a_users_class_shows_what_it_takes_itself():
    class Mine(weft.AdamW):
        def __init__(self, params, lr=0.5, *, engine="eager"):
            super().__init__(params, lr, engine=engine)

    class Own(Algorithm):
        def __init__(self, params, lr=0.5, engine="eager"):
            super().__init__(params, locals())

        @classmethod
        def chain(cls, **hypers):
            return cls.weave(weft.callbacks.descend, **hypers)

    for cls in (Mine, Own):
        assert [*inspect.signature(cls).parameters] == ["params", "lr", "engine"]
        opt = cls([torch.nn.Parameter(torch.ones(2))])
        assert opt.param_groups[0]["lr"] == 0.5
        assert "engine" not in opt.param_groups[0]


def test_what_a_subclass_hands_on_and_nobody_takes_is_refused():
    class Mine(weft.AdamW):
        def __init__(self, params):
            super().__init__(params, engin="eager")

    with pytest.raises(TypeError, match="unexpected keyword argument 'engin'"):
        Mine([torch.nn.Parameter(torch.ones(2))])


def test_weft_is_imported_without_what_it_needs_later():
    later = ("torch._dynamo", "sympy", "matplotlib", "weft.learner", "weft.racing", "weft.paths")
    code = f"import weft, sys; print([m for m in {later} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_dir_shows_what_there_is_to_use():
    shown = dir(weft)
    assert {"AdamW", "Learner", "callbacks", "create", "SAM"} <= set(shown)
    assert not {"types", "typing", "registry", "engine", "contract"} & set(shown)
    assert all(hasattr(weft, name) for name in shown)
