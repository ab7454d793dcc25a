"""FSDP2: a small GPT on real text, Muon for its matrices and AdamW for the rest, saved and resumed.

    torchrun --nproc-per-node 2 examples/fsdp2.py --steps 60 --save out/gpt
    torchrun --nproc-per-node 3 examples/fsdp2.py --steps 120 --load out/gpt

The curve goes on where it was, on another number of ranks: all see the same batches, and the step on
shards is that on the whole. The text is the manual that comes with Python.
"""

import argparse
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import weft

WIDTH, CONTEXT, BATCH = 96, 64, 12  # the batch is split evenly over 1, 2, 3, 4 or 6 ranks


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        heads = self.qkv(self.norms[0](x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))


class GPT(nn.Module):
    """Characters in, and how badly the next ones are told."""

    def __init__(self, letters):
        super().__init__()
        self.letters, self.places = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, letters)

    def forward(self, text):
        x = self.letters(text[:, :-1]) + self.places.weight
        for block in self.blocks:
            x = block(x)
        told = self.head(self.norm(x)).flatten(0, 1)
        return nn.functional.cross_entropy(told, text[:, 1:].flatten())


def main():
    """Train, and print the loss of every tenth step."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--steps", type=int, default=60)
    args.add_argument("--save")
    args.add_argument("--load")
    args = args.parse_args()
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    text = "\n".join(topics.values())
    known = sorted(set(text))
    data = torch.tensor([known.index(c) for c in text[:200_000]])

    torch.manual_seed(0)  # all ranks alike
    model = GPT(len(known))
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    groups = weft.route(model, {"hidden": weft.Muon.chain(lr=0.02), "*": weft.AdamW.chain(lr=2e-3)})
    opt = weft.Optimizer(groups)
    done = torch.zeros((), dtype=torch.long)
    if args.load:
        weights, states = get_state_dict(model, opt)
        dcp.load({"model": weights, "opt": states, "done": done}, checkpoint_id=args.load)
        set_state_dict(model, opt, model_state_dict=weights, optim_state_dict=states)

    for step in range(int(done), args.steps):
        draw = torch.Generator().manual_seed(step)
        at = torch.randint(len(data) - CONTEXT, (BATCH,), generator=draw)
        loss = model(torch.stack([data[i : i + CONTEXT + 1] for i in at[rank::ranks].tolist()]))
        loss.backward()
        opt.step()
        opt.zero_grad()
        mean = loss.detach() / ranks
        dist.all_reduce(mean)
        if rank == 0 and (step % 10 == 0 or step == args.steps - 1):
            print(f"step {step:4}  loss {mean.item():.5f}", flush=True)
    if args.save:
        weights, states = get_state_dict(model, opt)
        done.fill_(args.steps)
        dcp.save({"model": weights, "opt": states, "done": done}, checkpoint_id=args.save)
    elif rank == 0:
        print("\n".join(line for line in str(opt.explain()).splitlines() if "rank " in line))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
