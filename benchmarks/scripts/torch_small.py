"""160 thousand parameters, of which 210 tensors are observed at each step."""

from torch_model import train

train(width=64, depth=3, context=32)
