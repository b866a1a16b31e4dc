"""The claims of the adaptive-depth experiment, and the statistics that are held against them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments._adaptive_depth_measure import depths, error_of_fewest, fewest, kinds, label, stochastic, tasks
from experiments._networks import paired
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, BELOW_ZERO, Claim, Interval
from resnet_jax.report.intervals import CONFIDENCE, all_seeds, over_seeds

HAUSER = 'Hauser 2019, arXiv 1902.04106'
JASTRZEBSKI = 'Jastrzebski et al. 2018, arXiv 1710.04773'
GREFF = 'Greff et al. 2017, arXiv 1612.07771'
ALAIN = 'Alain & Bengio 2016, arXiv 1610.01644'
OURS = 'this project'


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of what the main network's blocks do, and of how many are needed at which depth and for which task."""
    return (
        _block_claims(measured) + _slope_claims(measured) + _need_claims(measured, config.bound) + _cut_claims(measured)
    )


def _block_claims(measured: Sequence[Measured]) -> list[Claim]:
    group = kinds(measured)[0]
    claim = partial(_of_all_seeds, group)
    made = [
        claim(
            lambda run: 100 * float(np.mean(_cosines(run) < 0)), source=JASTRZEBSKI, figure='cosines',
            statement='Blocks step downhill: what a block adds points against the gradient of the loss by its input',
            quantity='blocks of which the mean cosine of F(h) and ∂L/∂h is negative, %',
            expected='all; the last one about -0.1', accept=Interval(90.0, 100.0),
        ),
        claim(
            lambda run: _trend(_cosines(run)), source=JASTRZEBSKI, figure='cosines',
            statement='Later blocks point more against the gradient than earlier ones',
            quantity='rank correlation of the mean cosine with the number of the block', expected='negative',
            accept=BELOW_ZERO,
        ),
        claim(
            lambda run: float(np.abs(run['estimate_mean']).max()), source=GREFF, figure='estimates',
            statement="The output of a block estimates that of its stage: the mean error is near 0",
            quantity="largest mean error of a block, standard deviations of the stage's output", expected='near 0',
            accept=Interval(0.0, 0.1),
        ),
        claim(
            lambda run: _trend(run['probe_error']), source=ALAIN, figure='read_outs',
            statement='The deeper the features, the more a linear probe can tell from them',
            quantity="rank correlation of the probe's test error with the number of the block", expected='negative',
            accept=BELOW_ZERO,
        ),
    ]  # fmt: skip
    if _spreads(group[0]):
        made.append(
            claim(
                lambda run: max(map(_trend, _spreads(run))), source=GREFF, figure='estimates',
                statement='From block to block the estimates improve: in every stage their error spreads less and less',
                quantity="largest rank correlation in a stage of the error's deviation with the number of the block",
                expected='negative', accept=BELOW_ZERO,
            )
        )  # fmt: skip
    if len(group[0]['read_out_error']) > 1:
        made.append(
            claim(
                lambda run: _trend(run['read_out_error']), source=JASTRZEBSKI, figure='read_outs',
                statement='The classifier plugged in behind each block of the last stage errs less and less',
                quantity='rank correlation of the test error with the number of the block', expected='negative',
                accept=BELOW_ZERO,
            )
        )  # fmt: skip
    return made


def _slope_claims(measured: Sequence[Measured]) -> list[Claim]:
    runs = [run for group in depths(measured) for run in group]
    if len(depths(measured)) < 2 or len(runs) < 3:
        return []
    value, interval, _ = slope(runs)
    return [
        Claim(
            statement='The more blocks there are, the less each adds: in proportion to one over their number',
            source=HAUSER, quantity='slope of log mean ‖F‖/‖h‖ against log number of blocks', expected='-1',
            accept=Interval(-1.2, -0.6), form='shape', measured=value, interval=interval,
            n=f'{len(runs)} networks of {len(depths(measured))} depths', data=runs[0].data,
            figure='adaptive_depth_sizes',
        )
    ]  # fmt: skip


def _need_claims(measured: Sequence[Measured], bound: float) -> list[Claim]:
    """Of the fewest blocks that keep the accuracy, between kinds of networks."""
    main = kinds(measured)[0]
    made = [
        _of_all_seeds(
            main, lambda run: error_of_fewest(run, bound) - float(run['test_error'][0, 0]), source=OURS,
            statement='The fewest blocks keep the accuracy on images that they were not chosen by, too',
            quantity='test error with the fewest blocks minus that with all, percentage points', figure='removal',
            expected=f'at most {bound:g}, as on the images that they were chosen by', accept=Interval(-np.inf, bound),
        )
    ]  # fmt: skip
    claim = partial(_of_pairs, accept=ABOVE_ZERO, figure='fewest', source=OURS)
    shallow = depths(measured)[0]
    if shallow[0].depth < main[0].depth and paired(shallow, main):
        made.append(
            claim(
                shallow, main, lambda run: 100 * fewest(run, bound) / run.arch.blocks,
                statement=f'The deeper network needs a smaller share of its blocks: {label(shallow[0])} against '
                f'{label(main[0])}',
                quantity='difference of the fewest blocks that keep the accuracy, % of all blocks',
                expected='positive: the network is deeper than it needs',
            )
        )  # fmt: skip
    of_tasks = tasks(measured)
    if len(of_tasks) > 1 and paired(of_tasks[-1], of_tasks[0]):
        made.append(
            claim(
                of_tasks[-1], of_tasks[0], lambda run: fewest(run, bound),
                statement=f'An easier task uses fewer blocks: {label(of_tasks[0][0])} against {label(of_tasks[-1][0])}',
                quantity='difference of the fewest blocks that keep the accuracy, blocks',
                expected='positive: depth is chosen by the task',
            )
        )  # fmt: skip
    dropped = stochastic(measured)
    if paired(main, dropped):
        made.append(
            claim(
                main, dropped, lambda run: fewest(run, bound),
                statement='Trained with stochastic depth, a network needs fewer of its blocks',
                quantity='difference of the fewest blocks that keep the accuracy, blocks',
                expected='positive: it was trained without some of them',
            )
        )  # fmt: skip
    return made


def _cut_claims(measured: Sequence[Measured]) -> list[Claim]:
    main, shallow = kinds(measured)[0], depths(measured)[0]
    if not paired(main, shallow) or not cut_to(main[0], shallow[0]):
        return []
    blocks = shallow[0].arch.stage_blocks[0]
    errors = [float(deep['cut_error'][blocks - 1] - run['test_error'][0, 0]) for deep, run in paired(main, shallow)]
    value, interval = over_seeds(errors)
    return [
        Claim(
            statement=f'A network cut to a depth is worse than one trained at it: {label(main[0])} cut to '
            f'{label(shallow[0])}',
            source=OURS, quantity='test error of the cut network minus that of the one trained so, percentage points',
            expected='positive: later blocks are needed by the classifier', accept=ABOVE_ZERO, form='shape',
            measured=value, interval=interval, n=f'{len(errors)} seeds', data=main[0].data,
            figure='adaptive_depth_cut',
        )
    ]  # fmt: skip


def cut_to(deep: Measured, shallow: Measured) -> bool:
    """Has the one the blocks of the other in each stage, and more?"""
    return len(set(shallow.arch.stage_blocks)) == 1 and min(deep.arch.stage_blocks) > shallow.arch.stage_blocks[0]


def mean_size(run: Measured) -> float:
    """‖F‖/‖h‖, over the blocks that keep the shape."""
    return float(np.mean(run['size'][np.array(run.arch.shortcut_shapes_agree)]))


def slope(runs: Sequence[Measured]) -> tuple[float, Interval, float]:
    """Of log mean size against log number of blocks, with Student's t interval; and the fit's intercept."""
    fit = stats.linregress(np.log([run.arch.blocks for run in runs]), np.log([mean_size(run) for run in runs]))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(runs) - 2) * fit.stderr
    return float(fit.slope), Interval(float(fit.slope - half), float(fit.slope + half)), float(fit.intercept)


def _cosines(run: Measured) -> np.ndarray:
    return run['cosine'][np.isfinite(run['cosine'])]


def _spreads(run: Measured) -> list[np.ndarray]:
    """By stage, of the blocks before its last one, whose error is 0; stages of two such blocks or more."""
    stages = np.split(run['estimate_spread'], run.arch.entry_blocks[1:])
    return [of_stage[:-1] for of_stage in stages if len(of_stage) > 2]


def _trend(values: np.ndarray) -> float:
    """Rank correlation with the place; 0 of a constant, and of one value."""
    if len(values) < 2 or not np.ptp(values):
        return 0.0
    return float(stats.spearmanr(np.arange(len(values)), values).statistic)


def _of_all_seeds(group: Sequence[Measured], statistic: Callable[[Measured], float], *, figure: str, **said) -> Claim:
    value, interval = all_seeds([statistic(run) for run in group])
    seeds = f'{len(group)} seed{"s" * (len(group) > 1)}'
    return Claim(measured=value, interval=interval, form='shape', n=f'{seeds}, {group[0].arch.blocks} blocks',
                 data=group[0].data, figure=f'adaptive_depth_{figure}', **said)  # fmt: skip


def _of_pairs(
    ones: Sequence[Measured], others: Sequence[Measured], statistic: Callable[[Measured], float], *, figure: str, **said
) -> Claim:
    """That the one has more of something than the other, seed by seed."""
    found = [statistic(one) - statistic(other) for one, other in paired(ones, others)]
    value, interval = over_seeds(found)
    return Claim(measured=value, interval=interval, form='shape', n=f'{len(found)} seeds', data=ones[0].data,
                 figure=f'adaptive_depth_{figure}', **said)  # fmt: skip
