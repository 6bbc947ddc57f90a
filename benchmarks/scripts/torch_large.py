"""Five million parameters."""

from torch_model import train

train(width=256, depth=6, context=32)
