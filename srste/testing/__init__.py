"""For the tests of other packages: what every estimator keeps to.

class TestMine(srste.testing.EstimatorContract):
    def make(self):
        return MyEstimator()
"""

from srste.testing.contract import EstimatorContract

__all__ = ["EstimatorContract"]
