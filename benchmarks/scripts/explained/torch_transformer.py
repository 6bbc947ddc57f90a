"""One block of attention."""

import torch
from torch import nn

torch.manual_seed(2)
WIDTH, HEADS = 32, 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.up, self.down = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def attend(self, x):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        weights = torch.softmax(scores, -1)
        mixed = weights @ v
        return mixed.transpose(1, 2).flatten(2)

    def forward(self, x):
        h = x + self.attend(self.norm(x))
        wide = nn.functional.silu(self.up(self.norm(h)))
        return h + self.down(wide)


model = Block()
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
for _ in range(4):
    x = torch.randn(8, 12, WIDTH)
    h = model(x)
    loss = (h[:, 1:] - x[:, :-1]).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
