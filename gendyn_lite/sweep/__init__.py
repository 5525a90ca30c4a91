"""``gendyn run`` and ``gendyn sweep``: estimates of how long chapters and runs take, and sweeps of many runs.

`command` implements the two commands, `cost` the estimates; `grid` decides which runs a sweep has; `jobs` describes a
run and executes it; `local` and `on_ray` are the engines for one machine and for a Ray cluster; `live` writes the
progress line; `here` is what plain notebooks for students print first.
"""
