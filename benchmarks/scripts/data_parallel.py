"""Data-parallel training of torch in several processes over gloo: `PORT RANKS ddp|fsdp [FAULT]`; the fault is on rank 1 alone.

The processes are forked once torch is imported, with the variables that torchrun gives its own. Faults, at step 4: `batch` gives
another batch, `reduce` leaves the sum of the gradients where the others have their mean, `flip` flips a bit of a parameter;
`seed` draws other batches from the first step on.
"""

import os
import sys

import torch
import torch._dynamo  # what DDP and optimizers import later, each rank by itself
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

port, ranks, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
number, children = 0, [os.fork()]
while children[-1] and len(children) < ranks:
    number += 1
    children.append(os.fork())
if children[-1]:
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))

os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
fault = sys.argv[4] if len(sys.argv) > 4 and number == 1 else ""
torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
if how == "ddp":
    model = torch.nn.parallel.DistributedDataParallel(model)
else:
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
data = torch.Generator().manual_seed(1000 if fault == "seed" else number)
for step in range(1, 7):
    x = torch.randn(16, 6, generator=data)
    if fault == "batch" and step == 4:
        x[3, 0] += 1
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if fault == "reduce" and step == 4:
        for gradient in [parameter.grad for parameter in model.parameters() if parameter.grad is not None]:
            gradient.mul_(2)
    if fault == "flip" and step == 4:
        first = next(model.parameters())
        getattr(first, "_local_tensor", first).detach().view(torch.int32).view(-1)[3] ^= 1 << 10
    optimizer.step()
dist.destroy_process_group()
