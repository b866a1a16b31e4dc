"""The claims of the shattered gradients, from arrays as `_shattered_measure` makes them."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.analysis.shattering import RELU_GROWTH, residual_correlation
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Form, Interval
from resnet_jax.report.intervals import all_seeds, over_seeds

PAPER = 'Balduzzi et al. 2017, arXiv 1702.08591'
OWN = 'closed form, under the assumptions of Balduzzi et al. 2017, arXiv 1702.08591, for infinite width'
LAG = 1


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Means over draws of weights."""
    (one,) = measured
    return _noise_claims(one) + _correlation_claims(one) + _line_claims(one)


def at_lag(one: Measured, kind: str, depth: int) -> np.ndarray:
    """The autocorrelation at lag 1 on the grid, by draw."""
    return one['autocorrelation'][list(one['kind']).index(kind), :, depth - 1, LAG]


def _noise_claims(one: Measured) -> list[Claim]:
    """On the grid: what becomes white noise, what stays brown."""
    at = partial(at_lag, one)
    brown, deepest = float(one['brown'][LAG]), int(one['depth'][-1])
    near = partial(_claim, quantity='autocorrelation of df/dx at lag 1, mean over draws', figure='autocorrelation',
                   source=f'{PAPER}, section 2')  # fmt: skip
    return [
        near(
            at('feed-forward, centred', 2), accept=about(brown, 0.1), expected=f'{brown:.2f}, that of brown noise',
            statement='The gradient of a shallow network (2 layers) resembles brown noise',
        ),
        near(
            at('feed-forward, centred', 24), accept=about(0, 0.1), expected='0, that of white noise',
            statement='The gradient of a feed-forward network of 24 layers, mean-centred, resembles white noise',
        ),
        near(
            at('feed-forward', deepest), accept=Interval(brown / 2, 1), form='shape',
            statement='Without centring or BN the gradient of a feed-forward network does not whiten',
            expected=f'.74, nearer to brown than to white noise at {deepest} layers',
        ),
        near(
            at('residual, BN, β = 1', deepest), accept=about(0.64, 0.1), expected='.64',
            statement=f'The gradient of a residual network with BN, β = 1, keeps its structure over {deepest} layers',
        ),
        near(
            at('residual, BN, β = 0.1', deepest), accept=about(0.90, 0.1), expected='.90',
            statement=f'With β = 0.1 a residual network of {deepest} layers has nearly that of a shallow one',
        ),
        near(
            at('residual, BN, β = 0.1', deepest) - at('residual, BN, β = 1', deepest), accept=ABOVE_ZERO, form='shape',
            statement='The smaller β, the less the gradients of a residual network shatter', expected='above 0',
            quantity='autocorrelation at lag 1, β = 0.1 minus β = 1, mean over draws',
        ),
        _claim(
            one['looks_linear_variation'][:, -1], interval=all_seeds, accept=Interval(0, 1e-4), figure='gradients',
            statement=f'A looks-linear network of {deepest} layers is linear at its start: one gradient everywhere',
            quantity='standard deviation of df/dx over its root mean square, median and range over draws',
            expected='0, but for the rounding of float32', source=f'{PAPER}, on looks-linear weights',
        ),
    ]  # fmt: skip


def _correlation_claims(one: Measured) -> list[Claim]:
    """On independent inputs: how much two gradients have in common."""
    found = dict(zip(one['independent_kind'], one['correlation'], strict=True))
    last = one['correlation'].shape[-1]
    claim = partial(_claim, figure='correlation', source=f'{PAPER}, theorem on feed-forward networks',
                    quantity='correlation of gradients at independent inputs, mean over draws')  # fmt: skip
    made = [
        claim(
            found['feed-forward, BN'][:, depth - 1], expected=f'{2.0**-depth:.3f}',
            accept=close(2.0**-depth),
            statement=f'In a feed-forward network with BN the correlation is 2^-L: {depth} layers',
        )
        for depth in (1, 2, 4, 6) if depth <= last
    ]  # fmt: skip
    made.append(
        claim(
            found['feed-forward'][:, -1] * 2.0**last, accept=Interval(2, np.inf), form='shape',
            statement=f'Without centring or BN it is not: more than twice 2^-L is left after {last} layers',
            quantity=f'correlation after {last} layers, over 2^-{last}, mean over draws',
            expected='42 (.042 against .001)',
        )
    )  # fmt: skip
    for kind in ('residual, no BN', 'residual, centred'):
        made.append(
            claim(
                found[kind][:, -1] / found[kind][:, 0], expected=f'{0.75 ** (last - 1):.3f}',
                accept=close(0.75 ** (last - 1)), source=f'{PAPER}, theorem on residual networks',
                quantity='correlation at independent inputs, over that of one layer, mean over draws',
                statement=f'Every layer of a residual network leaves 3/4 of the correlation: {kind}, {last} layers',
            )
        )  # fmt: skip
    return made + _product_claims(one)


def _product_claims(one: Measured) -> list[Claim]:
    """Of residual networks with BN: by the product, and by the power of the depth that the paper gives."""
    found = dict(zip((1.0, 0.1), one['deep_correlation'], strict=True))
    deepest = one['deep_correlation'].shape[-1]
    claim, made = partial(_claim, figure='correlation'), []
    for growth, what in ((1.0, 'root mean square'), (RELU_GROWTH, 'deviation')):
        for scale, depth in ((1.0, 10), (1.0, deepest), (0.1, deepest)):
            expected = residual_correlation(scale, depth, growth)
            made.append(
                claim(
                    found[scale][:, depth - 1] / found[scale][:, 0], expected=f'{expected:.3f}', source=OWN,
                    accept=close(expected),
                    quantity='correlation at independent inputs, over that of one layer, mean over draws',
                    statement=f'With BN it is the product in which BN takes the {what}: β = {scale:g}, {depth} layers',
                )
            )  # fmt: skip
    depths = np.arange(10, deepest + 1)
    slopes = [np.polyfit(np.log(depths), np.log(row[9:]), 1)[0] for row in np.maximum(found[1.0], 1e-6)]
    made.append(
        claim(
            np.array(slopes), accept=Interval(-0.6, -0.4), form='shape', source=f'{PAPER}, theorem on BN',
            statement='With BN the correlation falls as one over the root of the depth (β = 1)',
            quantity=f'slope of log correlation against log depth, 10 to {deepest} layers, mean over draws',
            expected='-1/2',
        )
    )  # fmt: skip
    return made


def _line_claims(one: Measured) -> list[Claim]:
    """Of convolutional networks, on lines between images."""
    plain, residual = np.moveaxis(one['line_autocorrelation'][..., LAG], 1, 0)
    shallow, deep = (int(one['line_depth'][place]) for place in (0, -1))
    claim = partial(_claim, figure='lines', form='shape', data=str(one['line_data']),
                    source=f'{PAPER}, here for convolutional networks')  # fmt: skip
    return [
        claim(
            plain[0] - plain[-1], accept=ABOVE_ZERO, expected='above 0',
            statement=f'Plain convolutional networks shatter with depth: {shallow} against {deep} layers',
            quantity='autocorrelation at lag 1 on lines between images, difference, mean over draws',
        ),
        claim(
            plain[-1], accept=about(0, 0.1), expected='0, that of white noise',
            statement=f'The gradient of a plain convolutional network of {deep} layers resembles white noise',
            quantity='autocorrelation at lag 1 on lines between images, mean over draws',
        ),
        claim(
            residual[-1] - plain[-1], accept=ABOVE_ZERO, expected='above 0',
            statement=f'With shortcuts the gradients of {deep} layers shatter less',
            quantity='autocorrelation at lag 1 on lines between images, residual minus plain, mean over draws',
        ),
    ]  # fmt: skip


def close(correlation: float) -> Interval:
    """Within 20 % or 0.01."""
    return about(correlation, max(0.2 * correlation, 0.01))


def about(value: float, tolerance: float) -> Interval:
    return Interval(float(value - tolerance), float(value + tolerance))


def _claim(
    values: np.ndarray, *, interval=over_seeds, figure: str, form: Form = 'number', data='synthetic', **said
) -> Claim:
    value, its = interval(values)
    return Claim(measured=value, interval=its, n=f'{len(values)} draws', form=form, data=data,
                 figure=f'shattered_gradients_{figure}', **said)  # fmt: skip
