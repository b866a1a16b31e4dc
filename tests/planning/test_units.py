"""What the plan says that the backward pass keeps, against what JAX keeps of the models and XLA takes for it."""

import jax
import jax.numpy as jnp
import pytest

from resnet_jax.models.resnet import ResNet
from resnet_jax.planning.units import units
from tests.models.named import named
from tests.planning import kept


def planned(arch, dtype='float32'):
    """Bytes an example."""
    values = {}
    for unit in units(arch, jnp.dtype(dtype).itemsize):
        values |= unit.kept
    return sum(values.values())


@pytest.fixture
def accelerator(monkeypatch):
    """The models' programs for accelerators; nothing is compiled."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('resnet20', {}), ('resnet50', {}), ('resnet50d', {}), ('preact_resnet164', {}), ('preact_resnet50', {}),
        ('wrn16_4', {}), ('wrn16_4', {'dropout': 0.3}), ('resnext29_8x64d', {}), ('seresnet50', {}),
        ('nf_resnet50', {}), ('vgg19', {}), ('vgg19_small', {}), ('plain20', {}), ('stochastic_resnet8', {}),
        ('inception_resnet_small', {}),
        *(('resnet8', {'shortcut': kind}) for kind in ('B', 'conv', 'exclusive_gating', 'shortcut_gating', 'dropout')),
        *(('resnet8', {'block': kind}) for kind in ('inception', 'half_resolution', 'linear_projection')),
        ('resnet8', {'block': 'downsampling'}),
        ('resnet8', {'norm': 'none', 'gain': 'fixup'}), ('resnet8', {'gain': 'rezero'}),
        ('resnet8', {'join': 'concatenate'}), ('resnet8', {'conv': 'standardized'}),
        ('resnet8', {'placement': 'bn_after_addition'}),
    ],
)  # fmt: skip
@pytest.mark.usefixtures('accelerator')
def test_the_bytes_kept_of_an_example_are_those_that_jax_keeps(name, changes):
    arch = named(name, **changes)
    assert planned(arch) == kept.an_example(arch)


@pytest.mark.parametrize('name', ['resnet20', 'resnet50', 'preact_resnet11', 'wrn10_2'])
@pytest.mark.usefixtures('accelerator')
def test_in_bfloat16_too(name):
    arch = named(name)
    assert planned(arch, 'bfloat16') == kept.an_example(arch, 'bfloat16') < 0.6 * planned(arch)


@pytest.mark.parametrize('changes', [{'norm': 'group', 'norm_groups': 8}, {'pool': 'max'}])
@pytest.mark.usefixtures('accelerator')
def test_numbers_of_a_channel_or_a_group_are_left_out(changes):
    """Group normalisation keeps statistics of each group, a global max pool how many pixels are the maximum."""
    arch = named('resnet8', **changes)
    assert 0.999 * kept.an_example(arch) < planned(arch) < kept.an_example(arch)


def test_on_the_cpu_the_convolutions_of_larger_maps_keep_the_same():
    """Those of tiny maps and of groups, and max pooling, are other programs there, which keep more."""
    arch = named('resnet20')
    assert planned(arch) == kept.an_example(arch)
    grouped = named('resnext29_8x64d')
    assert planned(grouped) < kept.an_example(grouped)


@pytest.mark.parametrize('name', ['resnet8', 'preact_resnet8', 'wrn10_1'])
def test_what_a_compiled_gradient_takes_for_each_example_is_at_most_half_as_much_again(name):
    """Its temporary memory (float32, CPU), which holds what is kept and all else that it is computing with."""
    arch = named(name)
    few, many = (temporary(arch, examples) for examples in (16, 48))
    found = units(arch, 4)
    least = planned(arch) + 2 * 4 * max(unit.given.size for unit in found[1:])
    assert least < (many - few) / 32 < 1.5 * least


def temporary(arch, examples):
    network = ResNet(arch, scan_from=10_000)
    variables = jax.eval_shape(network.init_variables, jax.random.key(0))

    def loss(params, rest, images):
        logits, _ = network.apply({'params': params, **rest}, images, train=True, mutable=['batch_stats'])
        return jnp.mean(jnp.square(logits))

    images = jax.ShapeDtypeStruct((examples, *arch.image_shape), jnp.float32)
    rest = {'batch_stats': variables['batch_stats']}
    analysis = jax.jit(jax.grad(loss)).lower(variables['params'], rest, images).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize('name', ['resnet20', 'resnet50', 'preact_resnet164'])
def test_every_value_is_kept_once_and_a_block_keeps_its_input(name):
    found = units(named(name), 4)
    for unit in found[1:-1]:
        assert unit.kept[unit.given.number] == 4 * unit.given.size
    assert len(found) == named(name).blocks + 2
    assert [unit.part for unit in found][:2] == ['stem', 'stage1'] and found[-1].part == 'head'


def test_what_a_convolution_moves_by_hand():
    """32 x 32 px, 3 to 16 channels, in the stem of resnet20: the convolution, BN, ReLU."""
    stem = units(named('resnet20'), 4)[0]
    given, made = 32 * 32 * 3, 32 * 32 * 16
    assert stem.forward == 4 * (given + made + 3 * made) + made
    assert stem.backward == 4 * (2 * given + 2 * made + 5 * made) + 2 * made
