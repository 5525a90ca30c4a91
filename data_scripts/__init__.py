"""Fetch or import a data set, verify it and prepare it: the only place that touches the network."""
