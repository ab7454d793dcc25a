"""skorch: scikit-learn searches a learning rate for a chain of one's own."""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

import weft


def signs(update):
    return {"update": update.sign()}


x, y = load_digits(return_X_y=True)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    criterion=nn.CrossEntropyLoss,
    optimizer=weft.SGD.chain(momentum=0.9) + signs,
    max_epochs=5, verbose=0, train_split=None,
)  # fmt: skip
search = GridSearchCV(net, {"optimizer__lr": [1e-3, 1e-2]}, cv=2)
search.fit((x / 16).astype("float32"), y)
print("best rate:", search.best_params_, "accuracy:", accuracy := search.best_score_)
