"""What a paper claims beside what our runs say: value, interval, number of seeds, effect size and a verdict."""

from gendyn_lite.claims.verdicts import VERDICTS, AtLeast, Below, Claim, Near, judge, table

__all__ = ["VERDICTS", "AtLeast", "Below", "Claim", "Near", "judge", "table"]
