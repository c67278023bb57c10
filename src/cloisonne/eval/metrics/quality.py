"""How likely a picture is among real ones, after the QS of Paint by Example (arXiv 2211.13227, section 4.1).

The paper's score is a log-likelihood under a mixture of 20 Gaussians of CLIP's features, scaled by constants that fit
these. Ours is read off real pictures: the share of them that are less likely, so that real ones score 50 % on average.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloisonne.errors import CapabilityError

COMPONENTS = 20


@dataclass(frozen=True, eq=False)
class Mixture:
    """A fitted mixture, and the log-likelihoods of real pictures that it was not fitted on, in ascending order."""

    model: Any
    real: NDArray[np.float64]

    @classmethod
    def fit(cls, real: NDArray[np.float64]) -> "Mixture":
        """Fit on every second one of real embeddings [n, D], to be read off the others."""
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError as error:
            raise CapabilityError(
                'The quality score needs scikit-learn; install it with: pip install "cloisonne[eval]".'
            ) from error
        count = min(COMPONENTS, len(real) // 4)
        model = GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=0).fit(real[::2])
        return cls(model, np.sort(model.score_samples(real[1::2])))

    def quality(self, embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n]: of embeddings [n, D], the share of real pictures that are less likely."""
        return np.searchsorted(self.real, self.model.score_samples(embeddings)) / len(self.real)
