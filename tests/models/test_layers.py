"""Single parts: what they give by hand, and what they draw in training. The rest: test_blocks.py."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from resnet_jax.models import parts
from resnet_jax.models.blocks import Position, block
from resnet_jax.models.layers import Context, layers, run
from resnet_jax.models.parts import ACT, Conv, Dense, Dropout, GlobalPool, HalfResolution, LinearProjection, Pool
from resnet_jax.models.resnet import one_block


class Parts(nn.Module):
    """Parts at any position of a network."""

    sequence: parts.Parts
    made_with: Any

    @nn.compact
    def __call__(self, x: Array, position: Position = Position(0, 0), draws: Any = None, *, train=False) -> Array:  # noqa: B008
        return run(self.sequence, x, Context(self.made_with, train, position, draws))


@pytest.fixture
def apply(make_arch):
    """`apply(parts, x, params, …)` -> what the parts make of x (h, w) or (h, w, c)."""
    made_with = layers(make_arch())

    def apply(sequence, x, params=None, **keywords):
        x = jnp.asarray(x, jnp.float32)
        return Parts(sequence, made_with).apply(
            {'params': params or {}}, x.reshape(1, *x.shape, *(1,) * (3 - x.ndim)), **keywords
        )[0]

    return apply


FOUR = -np.arange(1, 17).reshape(4, 4)  # below 0: a zero behind the edge would be the largest


@pytest.mark.parametrize(
    ('pool', 'x', 'expected'),
    [
        (Pool(2, 2), FOUR, [[-1, -3], [-9, -11]]),
        (Pool(2, 2), FOUR[:3, :3], [[-1]]),  # an odd edge is left out
        (Pool(3, 2), FOUR, [[-1, -2], [-5, -6]]),
        (Pool(3, 1), FOUR[:2, :2], [[-1, -1], [-1, -1]]),
    ],
)
def test_the_largest_of_each_field(apply, pool, x, expected):
    np.testing.assert_array_equal(apply((pool,), x)[..., 0], expected)


@pytest.mark.parametrize(
    ('kind', 'expected'), [('average', [2, 5]), ('max', [3, 10]), ('both', [2, 5, 3, 10]), ('flatten', [1, 10, 3, 0])]
)
def test_one_vector_an_image(apply, kind, expected):
    np.testing.assert_array_equal(apply((GlobalPool(kind),), [[[1, 10], [3, 0]]]), expected)


def test_half_resolution_repeats_each_pixel_up_to_the_edge(apply):
    doubled = HalfResolution((parts.Times(2.0), ACT), 1)
    x = np.arange(1, 10).reshape(3, 3)
    by_hand = [[6, 6, 9], [6, 6, 9], [15, 15, 18]]  # of 1, 2, 4, 5 the mean is 3
    np.testing.assert_array_equal(apply((doubled,), x)[..., 0], by_hand)
    strided = apply((HalfResolution((parts.Times(2.0), ACT), 2),), x)[..., 0]
    np.testing.assert_array_equal(strided, [[6, 9], [15, 18]])


@pytest.mark.parametrize(
    ('between', 'join', 'expected'),
    [
        (False, 'product', [3 * 15 * 151]),  # x1 = 3, x2 = 5 x1, z = 10 x2 + 1
        (False, 'concatenate', [151, 3]),
        (True, 'product', [31 * 3 * 155]),  # z = 10 x1 + 1, x2 = 5 z
        (True, 'concatenate', [155, 3]),
    ],
)
def test_a_linear_projection_by_hand(apply, between, join, expected):
    part = LinearProjection((Conv('one', 1, 1),), (Conv('two', 1, 1),), Dense('dense', 1), between, join)
    kernels = {name: {'kernel': jnp.full((1, 1, 1, 1), value, jnp.float32)} for name, value in (('one', 3), ('two', 5))}
    dense = {'kernel': jnp.full((1, 1), 10, jnp.float32), 'bias': jnp.ones(1, jnp.float32)}
    np.testing.assert_array_equal(apply((part,), [[1]], {**kernels, 'dense': dense}).ravel(), expected)


@pytest.mark.usefixtures('float64')
def test_squeeze_and_excitation_by_hand(apply):
    """Means 2 and 4; reduced to relu(2 - 4 + 3) = 1; expanded to 0 and ln 3: gates 1/2 and 3/4."""
    reduce = {'kernel': jnp.asarray([[1.0], [-1.0]], jnp.float32), 'bias': jnp.asarray([3.0], jnp.float32)}
    expand = {'kernel': jnp.asarray([[0.0, np.log(3)]], jnp.float32), 'bias': jnp.zeros(2, jnp.float32)}
    y = apply((parts.SqueezeExcite('se', 1),), [[[1, 4], [3, 4]]], {'se_reduce': reduce, 'se_expand': expand})
    np.testing.assert_allclose(y[0], [[0.5, 3], [1.5, 3]], rtol=1e-6)


# Constants that depend on where a block stands


def test_a_signal_is_divided_by_the_deviation_that_brock_et_al_expect(make_arch, apply):
    """Of ResNet-50: each block adds 0.04, and a stage's first block begins anew behind its own division."""
    arch = make_arch(
        stage_blocks=(3, 4, 6, 3), widths=(8,) * 4, stem_width=4, gain='nf', conv='scaled_standardized', norm='none',
        shortcut='B',
    )  # fmt: skip
    found = []
    for stage, blocks in enumerate(arch.stage_blocks):
        for position in range(blocks):
            plan = block(arch, stage, entry=position == 0)
            (whiten,) = [part for part in (*plan.before, *plan.residual) if isinstance(part, parts.Whiten)] or [None]
            one = apply((whiten,) if whiten else (), [[1]], position=Position(99, position)).item()
            found.append(one**-2)
    expected = [
        1, 1.04, 1.08, 1.12, 1.04, 1.08, 1.12, 1.16, 1.04, 1.08, 1.12, 1.16, 1.20, 1.24, 1.04, 1.08,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_of_54_blocks_40_and_a_quarter_are_expected_to_be_kept(apply):
    """Huang et al. 2016, section 4: p falls linearly to 0.5."""
    survival = (parts.Survival(0.5, 54),)
    p = [apply(survival, [[1]], position=Position(index, 0)).item() for index in range(54)]
    np.testing.assert_allclose([p[0], p[26], p[53]], [1 - 0.5 / 54, 0.75, 0.5], rtol=1e-6)
    np.testing.assert_allclose(sum(p), 40.25, rtol=1e-6)


# What is drawn


def test_whole_branches_are_kept_with_their_probability_each_block_by_itself(make_arch):
    """Huang et al. 2016, eq. 4, over 3000 steps: within 4.5 deviations, and no two blocks together."""
    made_with, x, steps = layers(make_arch()), jnp.ones((3, 2, 2, 1), jnp.float32), 3000

    def kept(key):
        """Of each of five blocks: is all of it there, is any of it there?"""
        found = [
            run((parts.Survival(0.3, 5),), x, Context(made_with, True, Position(block, 0), key)) for block in range(5)
        ]
        return [jnp.stack([how(each != 0) for each in found]) for how in (jnp.all, jnp.any)]

    whole, alive = map(np.asarray, jax.jit(jax.vmap(kept))(jax.random.split(jax.random.key(0), steps)))
    np.testing.assert_array_equal(whole, alive)
    p = 1 - np.arange(1, 6) / 5 * (1 - 0.3)
    assert (np.abs(alive.mean(axis=0) - p) < 4.5 * np.sqrt(p * (1 - p) / steps)).all()
    together = np.corrcoef(alive.T) - np.eye(5)
    assert np.abs(together).max() < 4.5 / np.sqrt(steps)


def test_a_branch_that_is_kept_is_whole_and_one_that_is_dropped_leaves_no_nan(apply):
    """It is evaluation that is scaled (Huang et al. 2016, eq. 5)."""
    survival = (parts.Survival(0.5, 1),)
    seen = {apply(survival, [[3]], train=True, draws=jax.random.key(seed)).item() for seed in range(20)}
    assert seen == {0, 3}
    assert apply(survival, [[3]]).item() == 1.5
    broken = [apply(survival, [[np.nan]], train=True, draws=jax.random.key(seed)) for seed in range(20)]
    assert {np.isnan(each).all().item() for each in broken} == {True, False}
    assert all(each == 0 or np.isnan(each) for each in broken)


def test_dropout_divides_what_is_left_and_keeps_the_mean(apply):
    x = np.full((64, 64), 3.0)
    y = apply((Dropout(0.25, 0),), x, train=True, draws=jax.random.key(0))
    assert set(np.unique(y)) == {0, 4}
    assert abs((y == 0).mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / y.size)
    np.testing.assert_array_equal(apply((Dropout(0.25, 0),), x)[..., 0], x)


@pytest.mark.parametrize('placement', ['original', 'full_preactivation'])
def test_dropout_stands_before_the_last_convolution(make_network, placement):
    """Zagoruyko & Komodakis 2016, section 2.4."""
    network, variables = make_network(
        'float32', placement=placement, mid_ratios=(0.5, 0.5), dropout=0.5, norm='none', shortcut='identity',
        stage_blocks=(1,), widths=(4,),
    )  # fmt: skip
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 4)), jnp.float32)

    @jax.jit
    def given(params):
        """What the last convolution is given, in training and in evaluation."""
        seen = []

        def watch(call, arguments, keywords, context):
            if context.module.name == 'conv3':
                seen.append(arguments[0])
            return call(*arguments, **keywords)

        with nn.intercept_methods(watch):
            for train in (True, False):
                own, draws = one_block(network.arch, 0, entry=True), jax.random.key(0)
                own.apply({'params': params}, x, None, Position(0, 0), draws, train=train)
        return seen

    trained, evaluated = given(variables['params']['stage1']['entry'])
    active = evaluated[np.asarray(evaluated > 0)]
    kept = trained[np.asarray(evaluated > 0)] != 0
    np.testing.assert_array_equal(trained, jnp.where(trained == 0, 0, 2 * evaluated))
    assert abs(kept.mean() - 0.5) < 4.5 * np.sqrt(0.25 / active.size)


def test_every_step_draws_anew_and_the_same_key_the_same(make_network):
    network, variables = make_network('float32', stage_blocks=(1, 2), widths=(4, 8), dropout=0.5, shortcut='dropout')
    x = jnp.ones((2, 8, 8, 1), jnp.float32)

    @jax.jit
    def logits(key):
        return network.apply(variables, x, train=True, rngs={'dropout': key}, mutable=['batch_stats'])[0]

    one, other = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(logits(one), logits(one))
    assert np.abs(logits(one) - logits(other)).max() > 1e-3
