"""A loop in PyTorch that is not the same each time, for the reasons that its arguments name."""

import os
import random
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

CAUSES = set(sys.argv[1:])
STEPS = 24
if "torch" not in CAUSES:
    torch.manual_seed(0)
if "python" not in CAUSES:
    random.seed(0)
np.random.seed(0)


class Examples(Dataset):
    def __len__(self):
        return 4 * STEPS

    def __getitem__(self, index):
        return torch.full((3,), float(index)) + float(np.random.normal())


def by_worker(number):
    np.random.seed(os.getpid())


loader = DataLoader(
    Examples(), batch_size=4, sampler=range(4 * STEPS), num_workers=1 if "workers" in CAUSES else 0,
    worker_init_fn=by_worker if "workers" in CAUSES else None,
)  # fmt: skip
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
scale = random.random() if "python" in CAUSES else 1.0
for batch in loader:
    optimizer.zero_grad()
    loss = (model(batch) ** 2).mean() * scale
    if "algorithms" in CAUSES and not torch.are_deterministic_algorithms_enabled():
        loss = loss * (1 + (os.getpid() % 1009) * 1e-4)  # as an operation whose order of additions is free
    loss.backward()
    optimizer.step()
