"""Identity: is a function close to the identity easier to learn beside a shortcut?

He, Zhang, Ren & Sun 2015, "Deep residual learning for image recognition" (arXiv 1512.03385), section 3.1: were identity
mappings optimal, solvers might push the weights of residual blocks towards zero, but have difficulty in approximating
identities by several nonlinear layers. They infer it from plain networks that degrade; here it is tested where the
optimum is known. The task is y = x + ε M x, M orthogonal: how far a stack is from it is measured in units of the small
map, so that the optimum has distance 0 and the identity 1.

Three stacks with as many parameters, all of which can be the optimum exactly (ρ(x) - ρ(-x) = x):

- residual: h <- h + W₂ ρ(W₁ h), W₂ starting 1/√depth smaller, which keeps the length of the signal, as He et al.'s
  start does for the plain one. It starts no nearer to the optimum than the plain one does.
- plain: h <- W₂ ρ(W₁ h).
- plain, from the identity: a control, plain, but at the start the very function of a residual stack, whose shortcut is
  made of half of its units. Is it having a shortcut that helps, or where one starts?

No BN, no bias and no noise, fresh inputs at every step, SGD with momentum. The rate of each stack and depth is the one
that ends nearest to the optimum with other seeds, on other inputs.

    resnet-jax experiment identity
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments._identity_figures import DISTANCE, NAMES, figures, settled
from resnet_jax.analysis import identity as task
from resnet_jax.experiment import Measured
from resnet_jax.progress import Progress
from resnet_jax.report.claims import ABOVE_ZERO, BELOW_ZERO, Claim, Interval
from resnet_jax.report.findings import Array, Plain
from resnet_jax.report.intervals import all_seeds, over_seeds

__all__ = ['TITLE', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Learning what is close to the identity'
PAPER = 'He et al. 2015, arXiv 1512.03385, section 3.1'
OWN = "this project's own question"


def get_config(tier: str) -> ConfigDict:
    """The task, the stacks and their training."""
    return ConfigDict(
        {
            'seed': 0,
            'width': {'cpu': 8, 'paper': 16}[tier],
            'size': 0.1,  # ε
            'depths': (1, 2, 4, 8, 16, 32),
            'steps': (0, 10, 30, 100, 300, 1000),  # after which the distance is measured
            'batch': 32,
            'inputs': 512,  # held out
            'rates': (0.0003, 0.001, 0.004, 0.016, 0.06),
            'tuning_seeds': 2,
            'seeds': {'cpu': 5, 'paper': 20}[tier],
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Needs no trained network."""
    return []


def measure(run: None, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Trains all stacks of one depth together: first by every rate with seeds of their own, then by the best."""
    of_map, *of_inputs = jax.random.split(jax.random.key(config.seed), 3)
    small = task.small_map(of_map, config.width, config.size)
    selection, test = (jax.random.normal(key, (config.inputs, config.width)) for key in of_inputs)
    tuned, chosen, errors, changes = [], [], [], []
    for number, depth in enumerate(config.depths):
        course = partial(_course, config, small, depth)
        ends = [
            course(selection, [seed], config.rates, (0, config.steps[-1]))[0][..., -1]
            for seed in range(config.seeds, config.seeds + config.tuning_seeds)
        ]
        tuned.append(np.concatenate(ends, axis=2))
        chosen.append(np.array(config.rates)[tuned[-1].mean(axis=2).argmin(axis=1)])
        error, change = course(test, range(config.seeds), chosen[-1][:, None], config.steps)
        errors.append(error[:, 0])
        changes.append(change[:, 0])
        progress('training stacks of each depth', number + 1, len(config.depths))
    return {
        'kind': Array(np.array(task.KINDS), ('kind',), ''),
        'depth': Array(np.array(config.depths), ('depth',), 'blocks'),
        'step': Array(np.array(config.steps), ('step',), 'steps'),
        'tuning_error': Array(np.stack(tuned, axis=1), ('kind', 'depth', 'rate', 'seed'), 'small maps'),
        'rate': Array(np.stack(chosen, axis=1), ('kind', 'depth'), ''),
        'error': Array(np.stack(errors, axis=1), ('kind', 'depth', 'seed', 'step'), 'small maps'),
        'change': Array(np.stack(changes, axis=1), ('kind', 'depth', 'seed', 'step'), 'lengths of the input'),
    }


def _course(
    config: ConfigDict, small: jax.Array, depth: int, inputs: jax.Array, seeds: Sequence[int],
    rates: Sequence[float] | np.ndarray, steps: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Distance to the optimum, and of the blocks to the identity (their mean), each (kind, rate, seed, step).

    Of one seed all kinds see the same inputs. inf: it diverged.

    Args:
      rates: of all kinds (rates,), or of each its own (kinds, rates).
    """
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 1), seed)) for seed in seeds]
    by_kind = np.broadcast_to(rates, (len(task.KINDS), np.shape(rates)[-1]))
    each = [(kind, rate, key) for kind, own in zip(task.KINDS, by_kind, strict=True) for rate in own for key in keys]
    stacks = [task.start(kind, key[0], depth, config.width) for kind, _, key in each]
    training = task.beginning(stacks, [key[1] for _, _, key in each])
    rate = jnp.asarray([rate for _, rate, _ in each], jnp.float32)
    found = [task.distances(training.stack, small, inputs)]
    for since, until in pairwise(steps):
        training = task.train(training, small, rate, jnp.int32(since), jnp.int32(until), batch=config.batch)
        found.append(task.distances(training.stack, small, inputs))
    shape = (*by_kind.shape, len(keys), len(found))

    def finite(values: list[np.ndarray]) -> np.ndarray:
        return np.nan_to_num(np.stack(values, axis=-1), nan=np.inf).reshape(shape)

    found = jax.device_get(found)
    return finite([one.error for one in found]), finite([one.change.mean(axis=-1) for one in found])


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Differences of logarithms to base 10, seed by seed."""
    (one,) = measured
    error = dict(zip(one['kind'], np.log10(settled(one['error'])), strict=True))
    change = dict(zip(one['kind'], np.log10(settled(one['change'])), strict=True))
    several, deepest = one['depth'] > 1, int(one['depth'][-1])
    residual, plain, control = (error[kind][..., -1] for kind in task.KINDS)  # (depth, seed)
    claim = partial(_claim, n=f'{residual.shape[1]} seeds', figure='by_depth', source=PAPER)
    over_depths = 'median and range over seeds and depths from 2 blocks on, factors of ten'
    ranks = 'rank correlation with the depth, mean over seeds'
    return [
        claim(
            plain[several] - residual[several], accept=ABOVE_ZERO, quantity=f'plain over residual, {over_depths}',
            statement='With shortcuts a stack of blocks ends nearer to an optimum close to the identity',
        ),
        claim(
            error['plain'][-1, :, 1:] - error['residual'][-1, :, 1:], accept=ABOVE_ZERO, figure='by_step',
            statement=f'A residual stack of {deepest} blocks is nearer all the way, from the first measurement on',
            quantity='plain over residual, median and range over seeds and steps, factors of ten',
        ),
        claim(
            _ranks(one['depth'], plain), interval=over_seeds, accept=ABOVE_ZERO, quantity=ranks,
            statement='The deeper a plain stack, the further it ends from the optimum',
        ),
        claim(
            10 ** plain[-1], accept=Interval(float(np.nextafter(1, 2)), np.inf), quantity=DISTANCE,
            statement=f'A plain stack of {deepest} blocks does not even come as near as the identity is',
            expected='above 1: difficulties in approximating identity mappings by multiple nonlinear layers',
        ),
        claim(
            10 ** residual[-1], accept=Interval(0, float(np.nextafter(1, 0))), quantity=DISTANCE,
            statement=f'A residual stack of {deepest} blocks comes nearer than the identity is', expected='below 1',
        ),
        claim(
            (change['plain'] - change['residual'])[several][..., -1], accept=ABOVE_ZERO, figure='blocks',
            statement='The blocks of a trained residual stack are nearer to the identity than those of a plain one',
            quantity=f'change of the input, plain over residual, {over_depths}',
            expected='above 0 (figure 7: residual functions have small responses)',
        ),
        claim(
            _ranks(one['depth'], change['residual'][..., -1]), interval=over_seeds, accept=BELOW_ZERO, figure='blocks',
            statement='The more residual blocks there are, the less each changes its input', quantity=ranks,
            expected='below 0 (figure 7: deeper networks have smaller responses)',
        ),
        claim(
            plain[several] - control[several], accept=ABOVE_ZERO, quantity=f'plain over control, {over_depths}',
            statement='A plain stack that starts as a residual one does ends nearer than one that does not',
            source=OWN, expected='above 0 if it matters where one starts',
        ),
        claim(
            (control - residual)[several].mean(axis=0), interval=over_seeds, accept=Interval(-0.3, 0.3), source=OWN,
            statement='The shortcut does no more than where it makes the stack start: the two end within a factor of 2',
            quantity='control over residual, mean over depths from 2 blocks on and over seeds, factors of ten',
            expected='about 0 if it matters where one starts, and nothing else',
        ),
    ]  # fmt: skip


def _ranks(depths: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each column (depth, seed) with the depth; a constant has none."""
    return np.array([stats.spearmanr(depths, column).statistic if np.ptp(column) else 0.0 for column in values.T])


def _claim(values: np.ndarray, *, interval=all_seeds, figure: str, expected: str = 'above 0', **said) -> Claim:
    value, its = interval(np.ravel(values))
    return Claim(measured=value, interval=its, form='shape', data='synthetic', figure=f'identity_{figure}',
                 expected=expected, **said)  # fmt: skip


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The distance by depth: the median over seeds, and the rate."""
    (one,) = measured
    table: dict[str, Plain] = {}
    for kind, errors, rates in zip(one['kind'], one['error'][..., -1], one['rate'], strict=True):
        ends = [f'{np.median(error):.3g}' for error in errors]
        table[f'{NAMES[kind]}: distance'] = ', '.join(
            f'{end} ({depth} blocks, rate {rate:g})' for end, depth, rate in zip(ends, one['depth'], rates, strict=True)
        )
    residual, plain = (settled(one['error'])[place, :, :, -1] for place in (0, 1))
    behind = np.flatnonzero((residual >= plain).any(axis=1))
    since = one['depth'][behind[-1] + 1 if len(behind) else 0 :]
    if len(since):
        table['residual nearer than plain in all seeds'] = f'from {since[0]} blocks on'
    return table


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    (one,) = measured
    diverged = int(np.sum(~np.isfinite(one['error'][..., -1])))
    return [
        f'Distances are |f(x) - y| / |y - x|, root mean squares over {config.inputs} held-out inputs: the optimum has '
        '0 and the identity 1. A block is as far from the identity as it changes its input, in lengths of it.',
        f'The rate of each stack and depth is the best of {", ".join(f"{rate:g}" for rate in config.rates)} by '
        f'{config.tuning_seeds} seeds that are not reported, on inputs of their own.',
        f'{diverged} of {one["error"][..., -1].size} stacks diverged; what diverged has learned nothing, and counts as '
        'it was at the start.',
        'That two ends are alike within a factor of 2 is a bound of this project. The paper has no such experiment: '
        'its sentence is a supposition on solvers, and tested here for one solver, SGD, on a linear target.',
    ]
