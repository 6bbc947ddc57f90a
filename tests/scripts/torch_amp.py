"""PyTorch with a scheduler, dropout and autocast to bfloat16 on the CPU. Planted: another number of threads."""

import hashlib
import sys

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(2 if "--fault" in sys.argv else 1)


BATCH, FEATURES, WIDTH, STEPS = (8192, 64, 128, 400) if "--large" in sys.argv else (2048, 8, 64, 10)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, *, scale):
        return self.head(self.layers(x)) * scale


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
for _ in range(STEPS):
    x = torch.randn(BATCH, FEATURES)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, scale=torch.tensor(0.5))
    # A sum over many elements is split among the threads, and so is its rounding.
    loss = (out.float() ** 2).sum() / out.numel()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        model(x[:4], scale=torch.tensor(1.0))
    model.train()
print("digest", hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
