"""Fetch or import, verify and prepare data sets. This is the only package that uses the network."""
