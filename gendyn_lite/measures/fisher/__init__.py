"""Fisher information, the influence of one example's step, and the gradient mask (Jiang)."""

from gendyn_lite.measures.fisher.information import KINDS, DiagonalSum, diagonal, diagonal_over
from gendyn_lite.measures.fisher.mask import GradientMask
from gendyn_lite.measures.fisher.one_step import Influence, influence
from gendyn_lite.measures.fisher.probe import influence_probe
from gendyn_lite.measures.fisher.selection import largest, share_kept, threshold
from gendyn_lite.measures.fisher.taylor import Remainder, remainder

__all__ = [
    "KINDS",
    "DiagonalSum",
    "GradientMask",
    "Influence",
    "Remainder",
    "diagonal",
    "diagonal_over",
    "influence",
    "influence_probe",
    "largest",
    "remainder",
    "share_kept",
    "threshold",
]
