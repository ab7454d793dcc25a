"""fastai's own Learner takes a step of one line, then discriminative rates with AdamW."""

from functools import partial

import torch
from fastai.basics import DataLoader, DataLoaders, Learner, params
from fastai.callback import schedule  # noqa: F401, fit_one_cycle and its kin
from sklearn.datasets import load_digits
from torch import nn

import weft

sgd_cb = lambda p, lr, **kwargs: p.data.add_(p.grad.data, alpha=-lr)
opt_func = partial(weft.Optimizer, cbs=[sgd_cb])

x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
data = list(zip(x.float() / 16, y, strict=True))
dls = DataLoaders(DataLoader(data[:1500], bs=64, shuffle=True), DataLoader(data[1500:], bs=64))
model = nn.Sequential(nn.Linear(64, 64), nn.Sequential(nn.ReLU(), nn.Linear(64, 10)))
learn = Learner(dls, model, nn.functional.cross_entropy, opt_func=opt_func)
learn.fit_one_cycle(5, 0.5, moms=(0, 0, 0))
learn.opt_func, learn.splitter = weft.AdamW, lambda m: [params(m[0]), params(m[1])]
learn.create_opt()
learn.fine_tune(2, 1e-2)
print("accuracy:", accuracy := (model.cpu()(x.float() / 16).argmax(1) == y).float().mean().item())
