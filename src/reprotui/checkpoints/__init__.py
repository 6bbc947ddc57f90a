"""Checkpoints of runs: what is there, whether it is what was saved, and how two of them differ.

Reading needs no framework: `listing`, `verify`, `diff`, `registry`, `sign`, `damage`.
"""
