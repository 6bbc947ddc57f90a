"""A recurrent network, step by step."""

import torch
from torch import nn

torch.manual_seed(3)
enter, recur, out = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 5)
model = nn.ModuleList([enter, recur, out])
optimizer = torch.optim.RMSprop(model.parameters(), 5e-3)
for _ in range(4):
    x = torch.randn(7, 6, 5)
    h = torch.zeros(6, 16)
    means = []
    for now in x:
        h = torch.tanh(enter(now) + recur(h))
        means.append(h.mean())
    total = torch.stack(means).sum()
    loss = (out(h) - x[-1]).square().mean() + 0.01 * total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
