"""The layers of the second implementation, on NumPy arrays (n, h, w, c)."""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(x, kernel, strides=1):
    """Zero padding of (k - 1) / 2 on both sides; a kernel with fewer channels than x is one of groups."""
    (rows, columns, channels, _), (_, h, w, c) = kernel.shape, x.shape
    if channels != c:
        parts = zip(np.split(x, c // channels, -1), np.split(kernel, c // channels, -1), strict=True)
        return np.concatenate([convolve(*each, strides) for each in parts], axis=-1)
    padded = np.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    shifted = [padded[:, i : i + h : strides, j : j + w : strides] for i in range(rows) for j in range(columns)]
    return np.sum(
        [each @ tap for each, tap in zip(shifted, kernel.reshape(-1, c, kernel.shape[-1]), strict=True)], axis=0
    )


def max_pool(x, size, strides):
    """Padded by (size - 1) // 2 on every side; fields that do not lie inside are left out."""
    pad = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    return windows[:, ::strides, ::strides].max(axis=(-2, -1))


def mean_pool(x):
    """The mean of each 2x2 field, of what there is at an odd edge."""
    _, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), constant_values=np.nan)
    fields = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), (1, 2))[:, ::2, ::2]
    return np.nanmean(fields, axis=(-2, -1))
