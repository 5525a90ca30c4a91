"""Checkers of the exercises: they say what is wrong and why, over many random cases. One module a chapter."""
