"""Why over-parameterized networks generalize: five papers, their measures, exact and fast."""

__version__ = "0.1.0"
