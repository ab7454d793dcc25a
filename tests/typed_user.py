"""What a type checker sees of weft. `make types` reads this script; nothing runs it.

A line with a mistake says so: were the signature lost, the comment would be the error.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

import torch

import weft
from weft import SAM, AdamW, Chain, Optimizer, create
from weft.callbacks import ema, switch
from weft.optimizers import Algorithm

params = [torch.nn.Parameter(torch.ones(2))]

assert_type(AdamW(params, 1e-3, engine="fused", state_dtype=torch.float32), AdamW)
assert_type(weft.Fromage(params, on_nonfinite="skip"), weft.Fromage)
assert_type(AdamW.chain(), Chain)
assert_type(create("adamw", params), Optimizer)
assert_type(weft.Lookahead(AdamW(params), k=5), AdamW)
assert_type(weft.Lookahead(k=5), weft.Lookahead)
family: type[Algorithm] = AdamW
wrapper: type[weft.Wrapper] = SAM
blocks = weft.chain(ema, switch, weft.callbacks.descend, weft.callbacks.fastai.adam_step)

AdamW(params, engine=3)  # pyright: ignore[reportArgumentType]
AdamW(params, engin="fused")  # pyright: ignore[reportCallIssue]
weft.SOAP(params, beta=(0.9, 0.99))  # pyright: ignore[reportCallIssue]
weft.callbacks.no_such  # pyright: ignore[reportAttributeAccessIssue]
