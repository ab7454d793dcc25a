"""Lightning trains a small net on scikit-learn's digits with AdamW, made cautious."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn

import weft


class Digits(lightning.LightningModule):
    def configure_model(self):
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return weft.create("adamw+cautious", self.parameters(), lr=1e-2)


x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
batches = torch.utils.data.DataLoader(list(zip(x.float() / 16, y, strict=True)), batch_size=64)
lightning.Trainer(max_epochs=5, accelerator="auto", logger=False).fit(model := Digits(), batches)
print("accuracy:", accuracy := (model.net(x.float() / 16).argmax(1) == y).float().mean().item())
