"""torchvision and timm, and state dicts of random weights that no symmetry hides."""

import importlib
import sys

import jax
import numpy as np
import pytest

from resnet_jax import spec
from resnet_jax.weights import exporting, names


@pytest.fixture(scope='session')
def torchvision():
    torch = pytest.importorskip('torch')
    try:
        yield pytest.importorskip('torchvision')
    except RuntimeError:
        # A torchvision built for CUDA beside a torch for the CPU: its compiled operators do not load, and two are
        # missed while it is imported. No network here uses them.
        for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
            del sys.modules[name]
        operators = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            operators.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        yield importlib.import_module('torchvision')


@pytest.fixture(scope='session')
def reference(torchvision):
    """`reference(name, library)`: the library's own network for one of our names."""
    timm = pytest.importorskip('timm')
    from timm.models.resnetv2 import ResNetV2  # pyright: ignore[reportMissingImports]

    def make(name, library):
        name = name.removesuffix('_v1')  # nothing that bears a name differs
        if (name, library) == ('resnet200', 'torchvision'):
            return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [3, 24, 36, 3])
        if name == 'preact_resnet200':
            layers = {'conv_layer': timm.layers.create_conv2d, 'norm_layer': timm.layers.BatchNormAct2d}
            return ResNetV2([3, 24, 36, 3], **layers)
        name = name.replace('preact_resnet', 'resnetv2_')
        return getattr(torchvision.models, name)() if library == 'torchvision' else timm.create_model(name)

    return make


@pytest.fixture(scope='session')
def architecture():
    return lambda name: spec.architecture(names.settings(name))


@pytest.fixture(scope='session')
def draw():
    """`draw(arch)`: random variables, float32: statistics, scales and biases too."""

    def value(rng, path, leaf):
        kind, shape = path[-1].key, leaf.shape
        if kind == 'kernel':
            fan_in = np.prod(shape[-4:-1]) if len(shape) > 3 else shape[-2]
            return (rng.standard_normal(shape, np.float32) * np.sqrt(2 / fan_in)).astype(np.float32)
        if kind in ('scale', 'var', 'gain'):
            # Small branches, as training makes them: where they are large, fifty layers in float32 are a chaos, and
            # torch's own result is off by 1e-4 from its float64.
            weight = 0.2 if (path[-2].key, kind) == ('bn3', 'scale') else 1.0
            return (weight * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
        return 0.2 * rng.standard_normal(shape, np.float32)

    def make(arch):
        rng = np.random.default_rng(0)
        return jax.tree_util.tree_map_with_path(lambda *leaf: value(rng, *leaf), names.shapes(arch))

    return make


@pytest.fixture(scope='session')
def resnet18(architecture, draw):
    """(architecture, variables, state dict by torchvision's names)."""
    arch = architecture('resnet18')
    variables = draw(arch)
    return arch, variables, exporting.state_dict(variables, arch, names.libraries(arch)['torchvision'])
