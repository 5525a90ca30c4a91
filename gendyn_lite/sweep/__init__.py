"""Chapters at full size: what their runs cost, and the same runs on many machines.

``gendyn run`` and ``gendyn sweep`` are wired here: `chapters` knows the runs of each chapter, `cost` what they take,
`grid` reads a grid, `jobs` are the runs and how they are done here, `on_ray` is the engine of many machines.
"""
