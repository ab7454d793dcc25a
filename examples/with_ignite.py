"""ignite: an engine steps LAMB, and its handlers anneal the learning rate."""

import torch
from ignite.engine import Events, create_supervised_trainer
from ignite.handlers import CosineAnnealingScheduler
from sklearn.datasets import load_digits
from torch import nn

import weft

x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
batches = list(zip((x.float() / 16).split(64), y.split(64), strict=True))
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = weft.LAMB(model.parameters(), lr=0.05)
trainer = create_supervised_trainer(model, opt, nn.functional.cross_entropy)
anneal = CosineAnnealingScheduler(opt, "lr", 0.05, 1e-4, cycle_size=10 * len(batches))
trainer.add_event_handler(Events.ITERATION_STARTED, anneal)
trainer.run(batches, max_epochs=10)
print("accuracy:", accuracy := (model(x.float() / 16).argmax(1) == y).float().mean().item())
