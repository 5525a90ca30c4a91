"""Shared by several measures: one pass over a batch that yields the parts of each example's gradient."""
