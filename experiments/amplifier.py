"""Amplifier: does the residual form amplify small changes of the input?

A hypothesis of this project: a residual network is a differential amplifier. A small change of the image, in random
directions and in the one that raises the loss most (adversarial), is followed through residual networks and their
plain twins, before and after training: ‖h_l(x + εu) - h_l(x)‖ / ε at every block l, and the same relative to ‖x‖ and
‖h_l‖. For random directions the latter is the gradient scale coefficient of Philipp, Song & Carbonell 2017 (arXiv
1712.05577), who say that it grows exponentially with depth in plain networks, and less with shortcuts. Beside it stand
the norm ‖J‖_F (Hutchinson) and the largest singular value (power iteration) of every block's own Jacobian, the
coefficient from every block to the logits, and E‖∂softmax/∂x‖_F (Novak et al. 2018, arXiv 1802.08760). Growth is held
against the mean field: a ReLU residual layer multiplies the squared norm, and on the way back the squared gradient, by
1 + σ_v²σ_w²/2 (Yang & Schoenholz 2017, arXiv 1712.08969), in wide random layers and, where networks add to the identity
with nothing behind the addition, in these: forward and back their blocks should grow alike (an extension of this
project's: there BN, and means that are not 0, come between).

    resnet-jax experiment amplifier                       # on the networks it names, trained where they are missing
    resnet-jax experiment amplifier --run runs/digits     # on a run of yours

What is claimed: _amplifier_claims.py. How it is drawn: _amplifier_figures.py.
"""

from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments._amplifier_claims import MEAN_FIELD, claims, end_to_end, random_layers
from experiments._amplifier_figures import figures
from experiments._checkpoints import fresh, fresh_note, kept
from experiments._networks import network
from experiments._twins import networks
from resnet_jax.analysis import jacobian, mean_field
from resnet_jax.analysis.sweep import split
from resnet_jax.experiment import Measured
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array, Plain
from resnet_jax.run import Run

__all__ = ['TITLE', 'claims', 'figures', 'get_config', 'measure', 'measure_beside', 'notes', 'runs', 'summary']

TITLE = 'Small changes on their way through'

# name -> axes behind that of the checkpoints
QUANTITIES = {
    'random_gain': ('place',),
    'random_relative': ('place',),
    'adversarial_gain': ('place',),
    'adversarial_relative': ('place',),
    'to_logits': ('state',),
    'softmax': (),
    'block_rms': ('block',),
    'block_largest': ('block',),
    'growth_forward': ('block',),
    'growth_back': ('block',),
}


def get_config(tier: str) -> ConfigDict:
    """Which depths, how many seeds, on how many examples, and how closely."""
    return ConfigDict(
        {
            'tier': tier,
            'depths': {'cpu': (8, 20, 56), 'paper': (20, 56, 110)}[tier],
            'preactivated': {'cpu': 56, 'paper': 110}[tier],  # depth of the network that is held against the mean field
            'seeds': (0, 1, 2),
            'seed': 0,
            'statistics': {'cpu': 256, 'paper': 1000}[tier],  # training images that BN's statistics are taken of
            'examples': {'cpu': 32, 'paper': 256}[tier],  # test images
            'epsilon': 1e-3,  # length of the change, relative to the image's
            'directions': {'cpu': 4, 'paper': 16}[tier],
            'probes': 10,  # for what the logits depend on: as many as there are classes are exact
            'iterations': {'cpu': 20, 'paper': 50}[tier],  # for a block's largest singular value and ‖J‖_F
            'width': {'cpu': 512, 'paper': 2048}[tier],  # of the random layers of the mean field
            'layers': 32,  # in a network of a seed
            'variance': 1.0,  # σ_v² and σ_w²
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Residual and plain by depth, the deepest first, and a pre-activation network; all by seed."""
    names = [f'{family}{depth}' for depth in sorted(config.depths, reverse=True) for family in ('resnet', 'plain')]
    names.append(f'preact_resnet{config.preactivated}')
    return [network(config.tier, name, seed) for name in names for seed in config.seeds]


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Of the main run: the same, and beside it the growth in wide random layers, which has to do with no run."""
    layers = [
        mean_field.growth(
            jax.random.fold_in(jax.random.key(config.seed), seed),
            width=config.width, layers=config.layers, first=config.variance, second=config.variance,
        )
        for seed in config.seeds
    ]  # fmt: skip
    forward, back = (Array(np.stack(way), ('seed', 'layer'), '') for way in zip(*jax.device_get(layers), strict=True))
    return {'mean_field_forward': forward, 'mean_field_back': back} | measure_beside(run, config, progress)


def measure_beside(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Everything at the first checkpoint that was kept and at the last."""
    steps, found = sorted({kept(run)[0], run.step}), []
    parts = list(split(run.network, run.variables, [run.examples('test', config.examples)]))
    for number, step in enumerate(steps):
        progress('following small changes', number, len(steps))
        variables = fresh(run, step, config.statistics)
        each = [_examples(run, variables, images, labels, config) for images, labels in parts]
        joined = {name: np.concatenate([part[name] for part in each], axis=-1) for name in each[0]}
        # The paper's is a mean (Novak et al.); of all else the median over examples.
        found.append({n: v.mean(axis=-1) if n == 'softmax' else np.median(v, axis=-1) for n, v in joined.items()})
    stacked = {
        name: Array(np.stack([each[name] for each in found]), ('checkpoint', *axes), '')
        for name, axes in QUANTITIES.items()
    }
    return {'step': Array(np.array(steps), ('checkpoint',), 'steps'), **stacked}


def _examples(run: Run, variables: dict, images, labels, config: ConfigDict) -> dict[str, np.ndarray]:
    """Every quantity, with a last axis for the examples."""
    net, key = run.network, jax.random.key(config.seed)
    directions = jacobian.unit_directions(jax.random.fold_in(key, 0), images, config.directions)
    sensitivity = jacobian.sensitivity(
        net, variables, images, labels, jax.random.fold_in(key, 1), draws=config.probes
    )  # fmt: skip
    random, adversarial, sensitivity, blocks = jax.device_get((
        jacobian.gains(net, variables, images, directions, config.epsilon),
        jacobian.gains(net, variables, images, sensitivity.steepest[None], config.epsilon),
        sensitivity,
        jacobian.block_jacobians(net, variables, images, jax.random.fold_in(key, 2), iterations=config.iterations),
    ))  # fmt: skip
    size, dims = random.size, np.array(jacobian.dimensions(net, variables))[:, None]
    gain = np.sqrt(np.mean(np.square(random.gain), axis=0))
    alike = np.where(dims[1:-2] == dims[2:-1], 1.0, np.nan)  # elsewhere a block changes the shape
    return {
        'random_gain': gain,
        'random_relative': gain * size[0] / size,
        'adversarial_gain': adversarial.gain[0],
        'adversarial_relative': adversarial.gain[0] * size[0] / size,
        'to_logits': np.sqrt(sensitivity.logits / dims[:-1]) * size[:-1] / size[-1],
        'softmax': np.sqrt(sensitivity.softmax[0]),
        'block_rms': np.sqrt(blocks.frobenius / dims[1:-2]),
        'block_largest': blocks.largest,
        'growth_forward': alike * np.square(size[2:-1] / size[1:-2]),
        'growth_back': alike * sensitivity.logits[1:-1] / sensitivity.logits[2:],
    }


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """Medians over seeds, before and after training."""
    table: dict[str, Plain] = {}
    for network_name, runs in networks(measured).items():
        for name, what in (('random_relative', 'random'), ('adversarial_relative', 'adversarial')):
            first, last = (np.median([10 ** end_to_end(run, place, name) for run in runs]) for place in (0, -1))
            table[f'{network_name}, relative gain to the logits, {what}'] = f'{first:.3g} first, {last:.3g} last'
        first, last = (np.median([run['to_logits'][place, 1] for run in runs]) for place in (0, -1))
        label = f'{network_name}, gradient scale coefficient from the first block to the logits'
        table[label] = f'{first:.3g} first, {last:.3g} last'
        value = np.median([run['softmax'][-1] for run in runs])
        table[f'{network_name}, mean norm of ∂softmax/∂image, last'] = f'{value:.3g}'
    forward, back = (random_layers(measured, way).mean() for way in ('forward', 'back'))
    table['wide random layers, growth'] = f'{forward:.3f} forward, {back:.3f} back (mean field {_expected(config):.3f})'
    return table


def _expected(config: ConfigDict) -> float:
    return 1 + config.variance**2 / 2


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    return [
        fresh_note(config.statistics),
        f'{config.examples} test images, {config.directions} random directions each, changes of {config.epsilon:g} of '
        "the image's length; the median over images. Intervals are the range over seeds, of the random layers 95 % of "
        'the mean over layers.',
        'A random direction is stretched by ‖J‖_qm, the root of ‖J‖_F² over the number of inputs. The largest singular '
        f'value is a lower bound, of {config.iterations} steps of power iteration.',
        f'Held against the mean field: random layers to {MEAN_FIELD:.0%}, blocks of networks to 20 % of the logarithm. '
        "Both bounds are this project's, set before anything was measured.",
        f'The random layers are those of {len(config.seeds)} networks of {config.layers}, one for each seed: pooled '
        'after those of one seed had left both claims undecided; the bound stayed as it was.',
        'Relative gain and its slope over the blocks are the gradient scale coefficient; the claims of this project '
        '(residual above plain) and of Philipp et al. (plain above residual) contradict each other where they are of '
        'the same networks.',
    ]
