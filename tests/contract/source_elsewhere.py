"""Prints what `weft.contract.introspect` reads of the callbacks in `packing`, in any Python, with a stand-in for torch."""

import sys
import types
from pathlib import Path

HERE = Path(__file__).parent


def stand_in() -> None:
    """Modules that are enough to look at code: the rest of weft is not imported."""
    torch, weft = types.ModuleType("torch"), types.ModuleType("weft")
    torch.Tensor = torch.dtype = torch.device = type("Tensor", (), {})
    weft.__path__ = [str(HERE.parents[1] / "src" / "weft")]
    sys.modules |= {"torch": torch, "weft": weft}
    sys.path[:0] = [str(HERE)]


if __name__ == "__main__":
    stand_in()
    from packing import IN_PLACE, WAYS

    from weft.contract.introspect import look

    for cb in (*WAYS, *IN_PLACE):
        print(
            {k: sorted(v) if isinstance(v, frozenset) else v for k, v in look(cb)._asdict().items()}
        )
