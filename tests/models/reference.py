"""A second implementation of the networks, in NumPy: what the papers and the settings say, a loop over the blocks.

It knows nothing of the plans: of the network it shares the names of the variables alone. Dropout and stochastic depth
are as in evaluation.
"""

import jax
import numpy as np

from tests.models.arrays import convolve, max_pool, mean_pool, relu, sigmoid

PREACTIVATED = ('relu_only_preactivation', 'full_preactivation')
RELU_DEVIATION = 1 / 1.7139588594436646  # of max(z, 0), z normal, as the authors sampled it: sqrt((1 - 1/π) / 2)
SHARED = {  # collections, and layers with kernels, that the blocks of a body have in common
    'none': ((), False), 'kernels': ((), True), 'parameters': (('params',), True),
    'all': (('params', 'batch_stats'), True),
}  # fmt: skip


class Reference:
    """`Reference(arch, variables)(images, shortcut, residual)` -> logits; gates are (blocks,) or (blocks, n).

    With `train`, BN normalises by the batch but in the `frozen` parts; `running` has then the running statistics that
    follow, by the path of the BN. `read` has the paths of all leaves that were needed.
    """

    def __init__(self, arch, variables, *, train=False, frozen=()):
        self.arch, self.train, self.frozen, self.running, self.read = arch, train, frozen, {}, set()
        self.variables = jax.tree.map(np.asarray, variables)
        self.preactivated = arch.placement in PREACTIVATED
        self.full = arch.placement == 'full_preactivation'

    def __call__(self, images, shortcut=None, residual=None):
        blocks = sum(self.arch.stage_blocks)
        shortcut = np.full(blocks, 0.0 if self.arch.shortcut == 'none' else 1.0) if shortcut is None else shortcut
        residual = np.ones(blocks) if residual is None else residual
        x, index = self.stem(np.asarray(images)), 0
        for stage, count in enumerate(self.arch.stage_blocks):
            for position in range(count):
                self.where = (f'stage{stage + 1}', 'body' if position else 'entry', position - 1)
                x = self.block(x, stage, position, shortcut[index], residual[index])
                index += 1
        return self.head(x)

    def stem(self, x):
        arch, self.where = self.arch, ('stem',)
        strides = {
            'cifar': (1,), 'imagenet': (2,), 'three': (2, 1, 1), 'deep': arch.stem_strides,
        }[arch.stem]  # fmt: skip
        for number, step in enumerate(strides, start=1):
            x = self.conv(x, f'conv{number}', step)
            if number < len(strides):
                x = relu(self.norm(x, f'bn{number}'))
        x = x + self.scalar('bias1') if arch.gain == 'fixup' else x
        pools = arch.stem in ('imagenet', 'three')
        if pools and self.full:
            x = max_pool(x, 3, 2)
        x = relu(self.norm(x, f'bn{len(strides)}'))
        return max_pool(x, 3, 2) if pools and not self.full else x

    def head(self, x):
        arch, self.where = self.arch, ('head',)
        if self.preactivated:
            x = relu(self.norm(x, 'bn') if self.full else x)
        if arch.downsample == 'max_pool':
            x = max_pool(x, 2, 2)
        mean, highest = x.mean(axis=(1, 2)), x.max(axis=(1, 2))
        x = {
            'average': mean, 'max': highest, 'both': np.concatenate([mean, highest], axis=1),
            'flatten': x.reshape(len(x), -1),
        }[arch.pool]  # fmt: skip
        for number in range(1, len(arch.head_widths) + 1):
            x = relu(self.dense(x, f'dense{number}'))
        return self.dense(x + self.scalar('bias') if arch.gain == 'fixup' else x, 'dense')

    # A block

    def block(self, x, stage, position, s, r):
        arch, features = self.arch, self.arch.widths[stage]
        s, r = (np.reshape(gate, (-1, 1, 1, 1)) for gate in (s, r))
        strides, activated = 2 if stage and not position else 1, (stage, position) == (0, 0)
        same = strides == 1 and x.shape[-1] == features
        if strides == 2 and arch.downsample == 'max_pool':
            x, strides = max_pool(x, 2, 2), 1
        if arch.block == 'downsampling' and (strides == 2 or x.shape[-1] != features):
            x, strides, activated = self.conv(x, 'conv_ds', strides), 1, False
        changes = strides == 2 or x.shape[-1] != features
        active = self.activation(x, stage, position) if self.preactivated and not activated else x
        y = self.residual(active, stage, position, features, strides)
        projects = arch.shortcut in ('C', 'conv') or (arch.shortcut == 'B' and changes)
        passes = arch.shortcut != 'none' or same  # in a plain network a gate can let x pass, where it has the shape
        beside = self.shortcut(active if projects else x, features, strides, projects) if passes else 0
        if arch.shortcut in ('exclusive_gating', 'shortcut_gating'):
            g = sigmoid(self.conv(x, 'conv_gate', strides))
            y = g * y if arch.shortcut == 'exclusive_gating' else y
            beside = (1 - g) * beside
        if arch.join == 'concatenate':
            y = self.conv(np.concatenate([s * beside, r * y], axis=-1), 'conv_join')
            y = y if self.preactivated else self.norm(y, 'bn_join')
        else:
            y = s * beside + r * y
        if arch.placement == 'bn_after_addition':
            y = self.norm(y, 'bn_out')
        return relu(y) if arch.placement in ('original', 'bn_after_addition') else y

    def activation(self, x, stage, position):
        """What leads a pre-activated branch; divided, in an NF network, by the deviation that is expected there."""
        first = 'bn_in' if self.arch.block.startswith('inception') else 'bn1'
        x = relu(self.norm(x, first) if self.full else x)
        return x / np.sqrt(expected_variances(self.arch)[stage][position]) if self.arch.gain == 'nf' else x

    def shortcut(self, x, features, strides, projects):
        arch = self.arch
        if strides == 2 and arch.subsample == 'average':
            x, strides = mean_pool(x), 1
        if projects:
            x = x + self.scalar('bias_proj') if arch.gain == 'fixup' else x
            x = self.conv(x, 'conv_proj', strides)
            x = x if arch.shortcut == 'conv' or self.full else self.norm(x, 'bn_proj')
        else:
            x = x[:, ::strides, ::strides]
            missing = features - x.shape[-1]
            before = missing // 2 if arch.zero_channels == 'split' else 0
            x = np.pad(x, ((0, 0), (0, 0), (0, 0), (before, missing - before)))
        return arch.shortcut_scale * x

    # Its residual branch

    def residual(self, x, stage, position, features, strides):
        arch, kind = self.arch, self.arch.block
        if kind == 'half_resolution':
            inner = self.convolutions(mean_pool(x), features, 1)
            y = inner.repeat(2, axis=1).repeat(2, axis=2)[:, : x.shape[1], : x.shape[2]][:, ::strides, ::strides]
        elif kind == 'linear_projection':
            y = self.linear_projection(x, strides)
        elif kind == 'inception':
            y = self.inception(x, strides)
        elif kind.startswith('inception_resnet'):
            y = self.inception_resnet(x, strides, 'abc'[min(stage, 2)] if kind == 'inception_resnet' else kind[-1])
        else:
            y = self.convolutions(x, features, strides)
        if arch.squeeze_excite:
            squeezed = relu(self.dense(y.mean(axis=(1, 2)), 'se_reduce'))
            y = y * sigmoid(self.dense(squeezed, 'se_expand'))[:, None, None]
        if arch.gain in ('skipinit', 'rezero'):
            y = self.scalar('gain') * y
        block = sum(arch.stage_blocks[:stage]) + position + 1
        kept = 1 - block / sum(arch.stage_blocks) * (1 - arch.survival)
        return y * kept * arch.residual_scale * (arch.nf_alpha if arch.gain == 'nf' else 1)

    def convolutions(self, x, features, strides):
        """The convolutions of a basic branch or a bottleneck."""
        names = [f'conv{number}' for number in range(1, len(self.arch.mid_ratios) + 2)]
        steps = [strides if number == self.arch.strided_conv else 1 for number in range(1, len(names) + 1)]
        if self.arch.gain != 'fixup':
            return self.end(self.chain(x, names, steps), f'bn{len(names)}')
        for number, (name, step) in enumerate(zip(names, steps, strict=True), start=1):
            x = self.conv(x + self.scalar(f'bias{number}a'), name, step)
            if number < len(names):
                x = relu(x + self.scalar(f'bias{number}b'))
        return x * self.scalar('gain') + self.scalar(f'bias{len(names)}b')

    def chain(self, x, names, steps):
        """Convolutions, BN and ReLU between each two: the BN of the former or, fully pre-activated, of the latter."""
        for number, (name, step) in enumerate(zip(names, steps, strict=True)):
            if number:
                x = relu(self.norm(x, of(name if self.full else names[number - 1])))
            x = self.conv(x, name, step)
        return x

    def end(self, x, norm):
        if self.arch.placement in ('bn_after_addition', 'full_preactivation'):
            return x
        x = self.norm(x, norm)
        return relu(x) if self.arch.placement == 'relu_before_addition' else x

    def linear_projection(self, x, strides):
        one = self.conv(x, 'conv1', strides)
        one = one if self.full else relu(self.norm(one, 'bn1'))

        def second(x):
            return self.end(self.conv(relu(self.norm(x, 'bn2')) if self.full else x, 'conv2'), 'bn2')

        if self.arch.dense == 'after':
            two = second(one)
            z = last = self.dense(two, 'dense')
        else:
            z = self.dense(one, 'dense')
            two = last = second(z)
        return z * one * two if self.arch.dense_join == 'product' else np.concatenate([last, one], axis=-1)

    def inception(self, x, strides):
        paths = [['conv_1x1'], ['conv_3x3_reduce', 'conv_3x3'], ['conv_5x5_reduce', 'conv_5x5']]
        found = [self.chain(x, path, [strides, 1][: len(path)]) for path in paths]
        found.append(self.conv(max_pool(x, 3, strides), 'conv_pool'))
        ends = [of(path[-1]) for path in paths] + ['bn_pool']
        return np.concatenate([self.end(y, norm) for y, norm in zip(found, ends, strict=True)], axis=-1)

    def inception_resnet(self, x, strides, form):
        found = []
        for path in ['1a', '2ab', '3abc'] if form == 'a' else ['1a', '2abc']:
            names = [f'conv{path[0]}{letter}' for letter in path[1:]]
            y = self.chain(x, names, [strides, 1, 1][: len(names)])
            found.append(y if self.full else self.norm(y, of(names[-1])))
        y = np.concatenate(found, axis=-1)
        y = self.conv(relu(self.norm(y, 'bn_out') if self.full else y), 'conv_out')
        return relu(y) if self.arch.placement == 'relu_before_addition' else y

    # Layers

    def conv(self, x, name, strides=1):
        arch, kernel = self.arch, self.leaf('params', name, 'kernel')
        if arch.conv != 'plain':
            axes, fan_in = (0, 1, 2), np.prod(kernel.shape[:3])
            kernel = (kernel - kernel.mean(axes)) / np.sqrt(kernel.var(axes) + 1e-5)
            if arch.conv == 'scaled_standardized':
                kernel = self.leaf('params', name, 'gain') * kernel / (RELU_DEVIATION * np.sqrt(fan_in))
        biased = (arch.norm == 'none' and arch.gain != 'fixup') or name in ('conv_gate', 'conv_out')
        return convolve(x, kernel, strides) + (self.leaf('params', name, 'bias') if biased else 0)

    def dense(self, x, name):
        return x @ self.leaf('params', name, 'kernel') + self.leaf('params', name, 'bias')

    def scalar(self, name):
        return self.leaf('params', name, 'value')

    def norm(self, x, name):
        if self.arch.norm == 'none':
            return x
        x = self.grouped(x) if self.arch.norm == 'group' else self.batched(x, name)
        return x * self.leaf('params', name, 'scale') + self.leaf('params', name, 'bias')

    def grouped(self, x):
        n, h, w, c = x.shape
        groups = x.reshape(n, h * w, self.arch.norm_groups, -1)
        mean, var = groups.mean(axis=(1, 3), keepdims=True), groups.var(axis=(1, 3), keepdims=True)
        return ((groups - mean) / np.sqrt(var + self.arch.norm_epsilon)).reshape(n, h, w, c)

    def batched(self, x, name):
        paths = [self.path('batch_stats', name, each) for each in ('mean', 'var')]
        mean, var = (self.leaf('batch_stats', name, each) for each in ('mean', 'var'))
        if not self.train or self.where[0] in self.frozen:
            return (x - mean) / np.sqrt(var + self.arch.norm_epsilon)
        groups = x.reshape(-1, self.arch.norm_examples or len(x), *x.shape[1:])
        axes, count, kept = (1, 2, 3), groups[0, ..., 0].size, self.arch.norm_momentum
        found = groups.mean(axes), groups.var(axes, ddof=1) if count > 1 else groups.var(axes)
        for path, old, new in zip(paths, (mean, var), found, strict=True):
            self.running[path] = kept * self.running.get(path, old) + (1 - kept) * new.mean(axis=0)
        mean, var = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
        return ((groups - mean) / np.sqrt(var + self.arch.norm_epsilon)).reshape(x.shape)

    # Variables

    def path(self, collection, *names):
        """Where a variable of the present block stands: the names, and the position on the block axis if it has one."""
        collections, kernels = SHARED[self.arch.share]
        where, position = (self.where[:-1], self.where[-1]) if len(self.where) > 1 else (self.where, -1)
        module = self.variables[collection]
        for name in (*where, names[0]):
            module = module[name]
        shared = collection in collections or (kernels and 'kernel' in module)
        return (collection, *where, *names, *(() if position < 0 or shared else (position,)))

    def leaf(self, collection, *names):
        path = self.path(collection, *names)
        self.read.add(tuple(name for name in path if isinstance(name, str)))
        return at(self.variables, path)


def at(tree, path):
    """The leaf, or the part of one, at a path of names and positions."""
    for step in path:
        tree = tree[step]
    return tree


def of(conv):
    """The name of a convolution's normalisation."""
    return conv.replace('conv', 'bn')


def expected_variances(arch):
    """Of each block's input, a stage a list: each block adds alpha², and begins anew at 1 in the first of a stage."""
    variance, stages = 1.0, []
    for count in arch.stage_blocks:
        stages.append([])
        for position in range(count):
            stages[-1].append(variance)
            variance = (variance if position else 1.0) + arch.nf_alpha**2
    return stages
