"""Quality score of an image, after the QS of Paint by Example (arXiv 2211.13227, section 4.1).

The paper's score is a log-likelihood under a mixture of 20 Gaussians of CLIP features, scaled by fitted constants. Ours
is the fraction of real images that are less likely, so that real ones score 50 % on average.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloisonne.extras import check_extra

COMPONENTS = 20


@dataclass(frozen=True, eq=False)
class Mixture:
    """A fitted mixture, and the log-likelihoods of real images that it was not fitted to, in ascending order."""

    model: Any
    real: NDArray[np.float64]

    @classmethod
    def fit(cls, real: NDArray[np.float64]) -> "Mixture":
        """Fit to every second one of real embeddings [n, D]; the others are the reference."""
        check_extra("eval", "The quality score", "sklearn")
        from sklearn.mixture import GaussianMixture

        count = min(COMPONENTS, len(real) // 4)
        model = GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=0).fit(real[::2])
        return cls(model, np.sort(model.score_samples(real[1::2])))

    def quality(self, embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each of embeddings [n, D], the fraction of real images that are less likely; [n]."""
        return np.searchsorted(self.real, self.model.score_samples(embeddings)) / len(self.real)
