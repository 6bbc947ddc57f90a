"""PyTorch with everything that a checkpoint must bring back. `--forget NAME` leaves one of it out when going on."""

import argparse
import copy

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--save")
parser.add_argument("--resume")
parser.add_argument("--forget", default="")
parser.add_argument("--half", action="store_true", help="save in the middle of the step after the last one")
given = parser.parse_args()
EPOCH, MICRO, PARTS = 4, 8, 2  # steps of an epoch, rows of a micro-batch, micro-batches of a step

torch.manual_seed(0)
torch.set_num_threads(1)
rows = torch.randn(EPOCH * MICRO * PARTS, 6)
labels = (rows.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
ema = copy.deepcopy(model)
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=3)
micro = 0  # micro-batches that were trained on


def kept(saved, name, restore):
    if name != given.forget:
        restore(saved[name])


if given.resume:
    saved = torch.load(given.resume, weights_only=False)
    names = dict(model.named_parameters())
    statistics = {name: value for name, value in model.state_dict().items() if name not in names}
    model.load_state_dict({name: value for name, value in saved["model"].items() if name in names or given.forget != "statistics"}
                          | (statistics if given.forget == "statistics" else {}))  # fmt: skip
    if given.forget == "model":
        torch.manual_seed(0)
        for layer in model:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    kept(saved, "optimizer", optimizer.load_state_dict)
    kept(saved, "schedule", schedule.load_state_dict)
    if given.forget == "schedule":
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    kept(saved, "scaler", scaler.load_state_dict)
    kept(saved, "ema", ema.load_state_dict)
    if given.forget == "ema":
        ema.load_state_dict(model.state_dict())
    micro = saved["micro"]
    for parameter, gradient in zip(model.parameters(), saved["gradients"], strict=True):
        parameter.grad = None if given.forget == "gradients" else gradient
    kept(saved, "generator", torch.set_rng_state)
    if given.forget == "generator":
        torch.manual_seed(0)


class Order(torch.utils.data.Sampler):
    """Another permutation each epoch, as DistributedSampler makes it."""

    epoch = 0

    def __len__(self):
        return len(rows)

    def __iter__(self):
        return iter(torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.epoch)).tolist())


order = Order()
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(rows, labels), MICRO, sampler=order, generator=torch.Generator()
)  # fmt: skip


def batches(micro):
    begun, place = divmod(micro, len(loader))
    while True:
        order.epoch = begun - (micro // len(loader) if given.forget == "epoch" else 0)
        for number, batch in enumerate(loader):
            if number >= place or given.forget == "position":
                yield batch
        begun, place = begun + 1, 0


end = given.steps * PARTS + given.half
for inputs, targets in batches(micro):
    if micro == end:
        break
    scaler.scale(nn.functional.cross_entropy(model(inputs), targets) / PARTS).backward()
    micro += 1
    if micro % PARTS == 0:
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()
        with torch.no_grad():
            for mean, parameter in zip(ema.parameters(), model.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)
if given.save:
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
        "scaler": scaler.state_dict(), "ema": ema.state_dict(), "micro": micro, "generator": torch.get_rng_state(),
        "gradients": [parameter.grad for parameter in model.parameters()],
    }  # fmt: skip
    torch.save(state, given.save)
