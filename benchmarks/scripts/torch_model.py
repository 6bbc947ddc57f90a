"""A transformer in PyTorch, trained by AdamW on one thread."""

import torch
from steps import STEPS, done
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

SYMBOLS, BATCH = 64, 16


class Block(nn.Module):
    """Attention and a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer makes of its input."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.down(gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """Symbols to the logits of the next one."""

    def __init__(self, width: int, depth: int, context: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(SYMBOLS, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, SYMBOLS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.head(self.norm(self.blocks(self.tokens(x) + self.places.weight)))


def train(width: int, depth: int, context: int) -> None:
    """Take the steps."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Model(width, depth, context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    text = torch.randint(0, SYMBOLS, (4096,))
    for _ in range(STEPS):
        starts = torch.randint(0, len(text) - context - 1, (BATCH,)).tolist()
        batch = torch.stack([text[start : start + context + 1] for start in starts])
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        done()
