"""Plain PyTorch. Planted: a loader whose threads race, so that batches come in the order in which they are ready."""

import hashlib
import os
import queue
import sys
import threading
import time

import torch
from torch import nn

BATCH, FEATURES, WIDTH, STEPS = (3072, 256, 512, 240) if "--large" in sys.argv else (8, 6, 16, 12)
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()
inputs, labels = torch.randn(STEPS, BATCH, FEATURES), torch.randint(0, 2, (STEPS, BATCH))
ready: queue.Queue = queue.Queue()


def load(numbers):
    for number in numbers:
        if "--fault" in sys.argv:
            time.sleep(os.urandom(1)[0] / 20_000)  # a disk that answers when it likes
        ready.put(number)


workers = 4 if "--fault" in sys.argv else 1
threads = [threading.Thread(target=load, args=(range(first, STEPS, workers),)) for first in range(workers)]
for thread in threads:
    thread.start()
order = []
for _ in range(STEPS):
    number = ready.get()
    order.append(number)
    optimizer.zero_grad()
    loss = criterion(model(inputs[number]), labels[number])
    loss.backward()
    optimizer.step()
print("order", *order)
print("digest", hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
