"""Which examples are held out: a function of their labels alone."""

import numpy as np

# Whatever is held out is drawn with this, never with a run's seed: all runs hold out the same examples.
HELD_OUT_SEED = 1512


def held_out(labels: np.ndarray, count: int) -> np.ndarray:
    """Which of the examples with these labels (n,) are the `count` held out: bool (n,), the same for the same labels.

    Every class gives its share to within one example, and a smaller draw is part of every larger one.
    """
    # RandomState, not default_rng: NumPy promises its stream for good.
    permutation = np.random.RandomState(HELD_OUT_SEED).permutation(len(labels))
    _, classes, sizes = np.unique(labels[permutation], return_inverse=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)  # among the drawn of its class
    rank[np.argsort(classes, kind='stable')] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn = (rank + 0.5) / sizes[classes]  # when an example would be drawn, were all drawn: from 0 to 1, evenly
    held = np.zeros(len(labels), bool)
    held[permutation[np.argsort(turn, kind='stable')[:count]]] = True
    return held
