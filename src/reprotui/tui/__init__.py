"""The dashboard: screens and widgets over `race.monitor`, `compare` and `trace`. Reads; asks only `race` to do anything."""

import gc

# Imports and first frames make objects that stay: looking for rubbish among them took 70 of the 350 ms until a race was there.
gc.set_threshold(50_000, 20, 20)
