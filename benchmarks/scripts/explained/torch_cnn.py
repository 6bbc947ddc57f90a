"""A convolutional network with batch statistics."""

import torch
from torch import nn

torch.manual_seed(1)
convolution, norm, head = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(128, 10)
parameters = [*convolution.parameters(), *norm.parameters(), *head.parameters()]
model = nn.ModuleList([convolution, norm, head])
optimizer = torch.optim.Adam(parameters, 1e-2)
norm.train()


def forward(x):
    h = convolution(x)
    h = norm(h)
    h = torch.relu(h)
    h = nn.functional.avg_pool2d(h, 2)
    flat = h.flatten(1)
    return head(flat)


for _ in range(4):
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    loss = nn.functional.cross_entropy(forward(x), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
