"""Fisher information, the influence of one example's step, and the gradient mask (Jiang)."""

from gendyn_lite.measures.fisher.information import KINDS, DiagonalSum, diagonal
from gendyn_lite.measures.fisher.mask import GradientMask, largest, threshold
from gendyn_lite.measures.fisher.one_step import Influence, Remainder, influence, influence_probe, remainder
from gendyn_lite.measures.fisher.steps import StepLengths
