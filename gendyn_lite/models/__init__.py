"""The networks of the papers, exact to the parameter, each built by name from a seed."""

from __future__ import annotations

from gendyn_lite.models.build import INITIALIZATIONS, build, names, parameter_count
