"""Our networks against torchvision's and timm's own, on weights that went from one to the other by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.models.resnet import ResNet
from resnet_jax.weights import names
from resnet_jax.weights.exporting import state_dict

pytestmark = pytest.mark.torch

IGNORED = 'num_batches_tracked'
TOLERANCE = {'float32': 1e-4, 'float64': 1e-9}
VGG_STAGES = ('features.3', 'features.8', 'features.17', 'features.26', 'features.35')
PAIRS = [
    ('torchvision', 'resnet18'), ('torchvision', 'resnet50'), ('torchvision', 'resnext50_32x4d'),
    ('torchvision', 'wide_resnet50_2'), ('timm', 'resnet50d'), ('timm', 'seresnet50'), ('timm', 'preact_resnet50'),
    ('timm', 'nf_resnet50'),
]  # fmt: skip


@pytest.fixture
def pair(architecture, draw, reference):
    """`pair(library, name, dtype)`: (architecture, our variables, their names, the library's network) of one kind."""
    torch = pytest.importorskip('torch')

    def make(library, name, dtype):
        arch = architecture(name)
        theirs, variables = names.libraries(arch)[library], draw(arch)
        network = reference(name, library)
        stored = state_dict(variables, arch, theirs)
        network.load_state_dict({key: torch.tensor(value) for key, value in stored.items()}, strict=True)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        return arch, variables, theirs, network.to(getattr(torch, dtype))

    return make


def images(dtype, examples=3, pixels=64):
    return np.random.default_rng(1).standard_normal((examples, pixels, pixels, 3)).astype(dtype)


def ours(arch, variables, x, *, train):
    """Logits, what every stage gives, and the variables with new running statistics."""
    stages = [f'stage{number + 1}' for number in range(arch.stages)]
    apply = jax.jit(
        lambda variables, x: ResNet(arch).apply(
            variables, x, train=train, mutable=['batch_stats', 'intermediates'],
            capture_intermediates=lambda module, _: module.name in stages,
        )
    )  # fmt: skip
    logits, updates = apply(variables, x)
    kept = [updates['intermediates'][stage]['__call__'][0] for stage in stages]
    return logits, kept, {**variables, 'batch_stats': updates.get('batch_stats', {})}


def theirs(network, x, *, train):
    """The same of a torch network: logits, stages, state dict."""
    import torch  # pyright: ignore[reportMissingImports]

    kept = []
    stages = [name for name, _ in network.named_children() if name.startswith('layer')] or VGG_STAGES
    if hasattr(network, 'stages'):
        stages = [f'stages.{number}' for number in range(4)]
    # Cloned: the layer behind may write its result in the same place.
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda module, args, out: kept.append(out.clone()))
        for name in stages
    ]
    network.train(train)
    with torch.no_grad():
        logits = network(torch.tensor(x).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return logits, [each.permute(0, 2, 3, 1) for each in kept], network.state_dict()


def assert_close(found, expected, tolerance, what):
    found, expected = np.asarray(found), np.asarray(expected)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert found.shape == expected.shape and found.dtype == expected.dtype and error <= tolerance, (what, error)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize(('library', 'name'), PAIRS)
def test_stages_logits_and_running_statistics_are_those_of_the_library(pair, library, name, dtype):
    x, tolerance = images(dtype), TOLERANCE[dtype]
    with jax.enable_x64(dtype == 'float64'):
        arch, variables, naming, network = pair(library, name, dtype)
        for train in (False, True):
            logits, stages, after = ours(arch, variables, x, train=train)
            their_logits, their_stages, their_after = theirs(network, x, train=train)
            assert len(their_stages) == arch.stages
            for number, (found, expected) in enumerate(zip(stages, their_stages, strict=True), start=1):
                assert_close(found, expected, tolerance, f'stage{number}, train={train}')
            assert_close(logits, their_logits, tolerance, f'logits, train={train}')
            for key, value in state_dict(jax.device_get(after), arch, naming).items():
                if IGNORED not in key:
                    assert_close(value, their_after[key], tolerance, f'{key}, train={train}')


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
def test_vgg19_flattens_in_our_order_what_was_learned_in_theirs(pair, library):
    arch, variables, _, network = pair(library, 'vgg19', 'float32')
    x = images('float32', examples=1, pixels=224)
    logits, stages, _ = ours(arch, variables, x, train=False)
    their_logits, their_stages, _ = theirs(network, x, train=False)
    for number, (found, expected) in enumerate(zip(stages, their_stages, strict=True), start=1):
        assert_close(found, expected, TOLERANCE['float32'], f'stage{number}')
    assert_close(logits, their_logits, TOLERANCE['float32'], 'logits')


def test_every_gradient_of_resnet18_is_that_of_torchvision(pair):
    import torch  # pyright: ignore[reportMissingImports]

    x, labels = images('float64'), np.arange(3, dtype=np.int32)
    with jax.enable_x64(True):
        arch, variables, naming, network = pair('torchvision', 'resnet18', 'float64')

        def loss(params):
            logits, _ = ResNet(arch).apply(
                {**variables, 'params': params}, jnp.asarray(x), train=True, mutable=['batch_stats']
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        gradients = jax.jit(jax.grad(loss))(variables['params'])
        found = state_dict(jax.device_get({**variables, 'params': gradients}), arch, naming)
    network.train()
    logits = network(torch.tensor(x).permute(0, 3, 1, 2))
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long()).backward()
    for key, parameter in network.named_parameters():
        assert_close(found[key], parameter.grad, TOLERANCE['float64'], key)


@pytest.mark.parametrize('name', names.REFERENCES)
def test_names_and_shapes_are_those_of_the_library(architecture, reference, name):
    torch = pytest.importorskip('torch')
    arch = architecture(name)
    for library, naming in names.libraries(arch).items():
        with torch.device('meta'):
            state = reference(name, library).state_dict()
        expected = {key: tuple(value.shape) for key, value in state.items() if IGNORED not in key}
        found = {tensor.name: tensor.shape for tensor in names.tensors(arch, naming)}
        assert found == expected, library
