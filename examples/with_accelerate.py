"""accelerate: gradients of four batches make one step of SGD with momentum and a cautious mask."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn

import weft

x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
data = torch.utils.data.TensorDataset(x.float() / 16, y)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = weft.create("sgd(momentum=0.9)+cautious", model.parameters(), lr=0.2)
loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.2, total_steps=5 * len(loader))
model, opt, loader, sched = accelerator.prepare(model, opt, loader, sched)
for _ in range(5):
    for xb, yb in loader:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(xb), yb))
            (opt.step(), sched.step(), opt.zero_grad())
print("accuracy:", accuracy := (model(x.float() / 16).argmax(1) == y).float().mean().item())
