"""Which gradient estimator takes the better step, by how much, and is it real?

The experiment: from the same weights and the same batch, take an estimator's normalised direction,
know the loss at every learning rate along it, keep the lowest. See README.md.
"""

__version__ = "0.1.0"
