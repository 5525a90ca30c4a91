"""The measures of complexity that the field compares: norms of the weights, margins, flatness of the loss.

After the survey of Jiang et al. (2020), 'Fantastic generalization measures and where to find them'.
"""

from gendyn_lite.measures.complexity.flatness import gradient_noise, sharpness
from gendyn_lite.measures.complexity.norms import distance, frobenius, path_norm, spectral
from gendyn_lite.measures.complexity.output import margin
