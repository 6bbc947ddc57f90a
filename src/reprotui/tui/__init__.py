"""The dashboard: screens and widgets over `race.monitor`, `compare` and `trace`. Reads; asks only `race` to do anything."""
