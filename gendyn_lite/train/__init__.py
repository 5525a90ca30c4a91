"""Training: one loop with probes and a gradient hook, exact resume, and many small runs at once."""

from __future__ import annotations

from gendyn_lite.train.device import threads_for
from gendyn_lite.train.ensemble import fit_many
from gendyn_lite.train.history import DivergedError, History
from gendyn_lite.train.loop import estimate_seconds, fit
from gendyn_lite.train.probes import log_spaced
from gendyn_lite.train.step import learning_rate
