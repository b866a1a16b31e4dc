"""Adaptive depth: does a network choose its own depth?

What a block does: the size of what its residual branch adds, ‖F(h)‖/‖h‖ (Hauser 2019, arXiv 1902.04106: it falls as one
over the number of blocks), how far its output is from its input, and the cosine of F(h) with the gradient of the loss
by h (Jastrzebski et al. 2018, arXiv 1710.04773: a small step downhill). What is known behind it: how
well it estimates its stage's output (Greff et al. 2017, arXiv 1612.07771), the classifier plugged in there
(Jastrzebski), a linear probe (Alain & Bengio 2016, arXiv 1610.01644). Learned gates (SkipInit, ReZero) are read.

How many blocks are needed: blocks are removed one after the other with nothing trained again, always the one that then
costs least (greedy), or in order of what each costs alone, or of its size; the fewest blocks that keep the error within
a bound. The order and the number are selected on held-out training images, errors reported are of the test split.
Compared are depths, tasks (2, 5 and 10 classes with as many training images; 10 classes with all), stochastic depth
(Huang et al. 2016, arXiv 1603.09382), and deep networks cut to a lesser depth with networks trained at it.

Deviations: probes are ridge regressions on features averaged over pixels, not logistic; Greff's error is averaged over
all of a block's features. Directions and sizes are of held-out images, in evaluation.

    resnet-jax experiment adaptive_depth                       # on the networks it names, trained where missing
    resnet-jax experiment adaptive_depth --run runs/digits     # on a run of yours (data.selection above 0)

How it is measured: _adaptive_depth_measure.py. What is claimed: _adaptive_depth_claims.py. How it is drawn:
_adaptive_depth_figures.py.
"""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments._adaptive_depth_claims import claims
from experiments._adaptive_depth_figures import figures
from experiments._adaptive_depth_measure import METHODS, error_of_fewest, fewest, kinds, label, measure
from experiments._networks import network
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.findings import Plain

__all__ = ['TITLE', 'check', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Choosing a depth'


def get_config(tier: str) -> ConfigDict:
    """Which networks are trained, and what counts as keeping the accuracy."""
    return ConfigDict(
        {
            'tier': tier,
            'network': 'preact_resnet56',
            'others': ('preact_resnet20', 'preact_resnet110'),
            'seeds': (0, 1, 2),
            'task_examples': {'cpu': 128, 'paper': 5_000}[tier],  # training images of the tasks that are compared
            'skipinit_rate': 0.03,  # learning rate without normalisation; at 0.1 it does not train
            'bound': 1.0,  # percentage points of error above the whole network's
            'penalty': 1e-3,  # of a probe's ridge, as a share of the features' mean variance
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """The network by seed; other depths; stochastic depth and learned gates; easier and harder tasks."""
    shallow, deep = config.others
    made = [network(config.tier, config.network, seed) for seed in config.seeds]
    made += [network(config.tier, shallow, seed) for seed in config.seeds] + [network(config.tier, deep)]
    made += [network(config.tier, config.network, seed, survival=0.5) for seed in config.seeds]
    skipinit = network(config.tier, config.network, gain='skipinit', norm='none')
    skipinit.train.schedule.learning_rate = config.skipinit_rate
    made += [skipinit, network(config.tier, config.network, gain='rezero')]
    made += [_task(config, classes, seed) for classes in (2, 10) for seed in config.seeds]
    return [*made, _task(config, 5, 0)]


def _task(config: ConfigDict, classes: int, seed: int) -> ConfigDict:
    """The first classes alone, with as many images to train on and to select on, whatever their number."""
    made = network(config.tier, config.network, seed)
    # What is held out is drawn from all classes: of fewer, more of each make as many.
    made.data.update(classes=classes, examples=config.task_examples, selection=made.data.selection * 10 // classes)
    return made


def check(architectures: Sequence[Architecture]) -> None:
    """The main network adds its branches to a signal that passes, in a stage of two blocks or more."""
    main = architectures[0]
    if main.plain or main.join != 'add':
        raise UserError(
            f'adaptive_depth asks what blocks add to the signal beside them; a network with shortcut {main.shortcut!r} '
            f'and join {main.join!r} adds nothing to it: give a run of a residual network'
        )
    if max(main.stage_blocks) == 1:
        raise UserError(
            f'all blocks of this network (stage_blocks {list(main.stage_blocks)}) enter a stage; adaptive_depth needs '
            'a stage of two blocks or more, as of 14 layers'
        )


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table: of the main run what its blocks do, of every kind of network how many blocks it needs."""
    main = measured[0]
    same = np.array(main.arch.shortcut_shapes_agree)
    cosine = main['cosine'][same]
    table: dict[str, Plain] = {
        'what a block adds, median ‖F‖/‖h‖': f'{np.median(main["size"][same]):.3f} '
        f'({main["size"][same].min():.3f} to {main["size"][same].max():.3f}, {same.sum()} blocks)',
        'blocks that point downhill': f'{(cosine < 0).sum()} of {len(cosine)}; the last one cosine {cosine[-1]:.3f}',
        'classifier behind the first and the last block of the last stage': f'{main["read_out_error"][0]:.1f} %, '
        f'{main["read_out_error"][-1]:.1f} %',
        'linear probe behind the stem and the last block': f'{main["probe_error"][0]:.1f} %, '
        f'{main["probe_error"][-1]:.1f} %',
        'a third of the blocks removed': ', '.join(
            f'{method}: {main["test_error"][number, main.arch.blocks // 3]:.1f} %'
            for number, method in enumerate(METHODS)
        ),
    }
    for group in kinds(measured):
        counts = [fewest(run, config.bound) for run in group]
        errors = [error_of_fewest(run, config.bound) for run in group]
        whole = np.median([run['test_error'][0, 0] for run in group])
        table[f'{label(group[0])}, fewest blocks'] = (
            f'{", ".join(map(str, counts))} of {group[0].arch.blocks}, test error {np.median(errors):.2f} % '
            f'(whole {whole:.2f} %)'
        )
        if np.isfinite(group[0]['gain']).any():
            gains = np.abs(group[0]['gain'])
            table[f'{label(group[0])}, learned gates'] = (
                f'median size {np.median(gains):.3f}, {gains.min():.3f} to {gains.max():.3f}'
            )
    return table


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    main = measured[0]
    said = [
        'Evaluation mode, stored BN statistics, nothing trained again. Intervals: what must hold of all seeds, by the '
        "range over seeds; differences between networks, by Student's t over seeds paired; the slope over depths, by "
        "Student's t over networks.",
        f'Keeping the accuracy: at most {config.bound:g} point of error above the whole network on the selection '
        'split. That bound, a tenth of a standard deviation for the estimates of a stage, and all claims of "this '
        'project" are not from a paper; they were set before anything was measured.',
        'A block may be removed wherever a signal passes beside it, entry blocks too.',
        "That the error of a stage's estimate spreads less from block to block would also be seen if blocks added "
        'what has nothing to do with each other; it is the mean near 0 that speaks of estimates.',
    ]
    tasks = [run for run in measured if run.config is not None and run.config.data.classes]
    if tasks:
        said.append(
            f'Tasks: the first classes alone, {config.task_examples} training images each and as many images '
            'to select on; the head keeps an output for every class of the dataset; as many steps of training. With as '
            'many images, more classes also mean fewer of each and a larger error to begin with.'
        )
    if any(run.arch.gain == 'skipinit' for run in measured[1:]):
        said.append(
            f'SkipInit, which has no normalisation, is trained at a learning rate of {config.skipinit_rate:g}, chosen '
            'on the digits after its training error had stayed at chance at the 0.1 of the others (of 0.03 and 0.01, '
            'at one seed): it is not compared with them.'
        )
    if len(kinds(measured)) == 1:
        said.append(
            'Depths, stochastic depth and tasks are compared where runs that differ in them are measured too: without '
            '--run, they are.'
        )
    if main.data != 'cifar10':
        said.append(f'The papers measured CIFAR-10 and ImageNet; on {main.data} only the shape of a claim is tested.')
    return said
