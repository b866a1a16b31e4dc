"""A second implementation of the networks, in NumPy: what the papers say, as a loop over the blocks."""

import jax
import numpy as np
import pytest


@pytest.fixture(scope='session')
def reference():
    return Reference


class Reference:
    """`Reference(arch, variables, train)(images, shortcut, residual)` -> logits; gates are (blocks,) or (blocks, n).

    `statistics` has the mean and the unbiased variance of every batch that a BN has normalised, by its path.
    """

    def __init__(self, arch, variables, *, train=False):
        self.arch, self.train, self.statistics = arch, train, {}
        self.variables = jax.tree.map(np.asarray, variables)

    def __call__(self, images, shortcut=None, residual=None):
        blocks = self.arch.blocks
        shortcut = np.full(blocks, 0.0 if self.arch.shortcut == 'none' else 1.0) if shortcut is None else shortcut
        residual = np.ones(blocks) if residual is None else residual
        x = np.maximum(self.norm(convolve(np.asarray(images), self.kernel('stem', 'conv1')), 'stem', 'bn1'), 0)
        index = 0
        for stage, count in enumerate(self.arch.stage_blocks):
            for position in range(count):
                x = self.block(x, stage, position, shortcut[index], residual[index])
                index += 1
        if self.arch.block == 'preact':
            x = np.maximum(self.norm(x, 'head', 'bn'), 0)
        dense = self.variables['params']['head']['dense']
        return x.mean(axis=(1, 2)) @ dense['kernel'] + dense['bias']

    def block(self, x, stage, position, s, r):
        s, r = (np.reshape(gate, (-1, 1, 1, 1)) for gate in (s, r))
        features, strides = self.arch.widths[stage], 2 if stage and not position else 1
        where = (f'stage{stage + 1}', 'body' if position else 'entry', position - 1)
        preact, changes = self.arch.block == 'preact', stage and not position
        projects = self.arch.shortcut == 'C' or (self.arch.shortcut == 'B' and changes)
        if not preact:
            y = convolve(x, self.kernel(*where, 'conv1'), strides)
            y = np.maximum(self.norm(y, *where, 'bn1'), 0)
            y = self.norm(convolve(y, self.kernel(*where, 'conv2')), *where, 'bn2')
            source = x
        else:
            active = x if (stage, position) == (0, 0) else np.maximum(self.norm(x, *where, 'bn1'), 0)
            y = convolve(active, self.kernel(*where, 'conv1'), strides)
            y = convolve(np.maximum(self.norm(y, *where, 'bn2'), 0), self.kernel(*where, 'conv2'))
            source = active if projects else x
        out = r * y
        if projects:
            skip = convolve(source, self.kernel(*where, 'shortcut', 'conv_proj'), strides)
            out = out + s * (skip if preact else self.norm(skip, *where, 'shortcut', 'bn_proj'))
        elif not (self.arch.shortcut == 'none' and changes):
            out = out + s * self.identity(source, features, strides)
        return out if preact else np.maximum(out, 0)

    def identity(self, x, features, strides):
        """Shortcut A."""
        if strides == 2 and self.arch.subsample == 'average':
            n, h, w, c = x.shape  # even here
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        elif strides == 2:
            x = x[:, ::2, ::2]
        missing = features - x.shape[-1]
        before = missing // 2 if self.arch.zero_channels == 'split' else 0
        return np.concatenate(
            [np.zeros((*x.shape[:3], before)), x, np.zeros((*x.shape[:3], missing - before))], axis=-1
        )

    def leaf(self, collection, *path):
        """The leaf at a path; a number in it is a position on the stacked axis (none in an entry block)."""
        found = self.variables[collection]
        for name in path:
            if isinstance(name, str):
                found = found[name]
        number = next((name for name in path if isinstance(name, int)), -1)
        return found if number < 0 else found[number]

    def kernel(self, *path):
        return self.leaf('params', *path, 'kernel')

    def norm(self, x, *path):
        mean, var = self.leaf('batch_stats', *path, 'mean'), self.leaf('batch_stats', *path, 'var')
        if self.train:
            mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            count = x.size // x.shape[-1]
            self.statistics[path] = mean, var * count / (count - 1)
        normal = (x - mean) / np.sqrt(var + self.arch.norm_epsilon)
        return normal * self.leaf('params', *path, 'scale') + self.leaf('params', *path, 'bias')


def convolve(x, kernel, strides=1):
    size, (_, h, w, _) = len(kernel), x.shape
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        padded[:, i : i + h : strides, j : j + w : strides] @ kernel[i, j] for i in range(size) for j in range(size)
    )
