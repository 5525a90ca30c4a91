"""Chapters at full size: what their runs cost, and the same runs on many machines.

``gendyn run`` and ``gendyn sweep`` are wired here: `chapters` knows the runs of each chapter, `cost` what they take,
`grid` reads a grid, `store` keeps the runs, `local` and `on_ray` are the two engines.
"""
