"""Every optimizer that `weft list --shards` names, as long as the issue of sums that drift takes to show."""

import os
import traceback

from placed import made, same

NAMES = "WEFT_TEST_NAMES"  # told by the test: finding them takes as long as running some


def every_optimizer(rank, world):
    wrong = []
    for name in os.environ[NAMES].split(","):
        try:
            same(
                world,
                made(name),
                steps=50,
                shapes=[(6, 4), (3, 4), (5,)],
                loss=1.0,
                reference="fused",
                few=True,
            )
        except Exception:  # of all ranks: they compare the same whole tensors
            wrong.append(f"{name}: {traceback.format_exc(limit=-2)}")
    assert not wrong, "\n".join(wrong)


CASES = {"every_optimizer": every_optimizer}
