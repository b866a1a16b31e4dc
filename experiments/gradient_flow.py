"""Gradient flow: does the identity carry the gradient back?

He et al. 2015, "Deep residual learning" (arXiv 1512.03385), sections 4.1 and 4.2 with figure 7, and He et al. 2016,
"Identity mappings" (arXiv 1603.05027), equation 5. The gradient of the loss is followed back through networks of
several depths, residual and plain, at several steps of their training. Where a stage's blocks add to the identity and
nothing stands behind the addition (pre-activation), the gradient is the sum of an identity term and of one term for
every residual branch: each is computed, in float64, and the residual terms are held against the identity term, which
they would have to cancel for the gradient to vanish. Then the responses of all 3x3 layers, as in figure 7.

Deviations: gradients are those of single test examples, in evaluation with fresh BN statistics (the papers do not say
in which mode); entry blocks, which change the shape, carry no identity and are left out where a stage is compared with
its end.

    resnet-jax experiment gradient_flow                       # on the networks it names, trained where they are missing
    resnet-jax experiment gradient_flow --run runs/digits     # on a run of yours

What is claimed: _gradient_flow_claims.py. How it is drawn: _gradient_flow_figures.py.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments._checkpoints import fresh, fresh_note, kept
from experiments._gradient_flow_claims import (
    RESIDUAL_TERM,
    claims,
    median_response,
    nearest_to_cancelling,
    span_cosine,
)
from experiments._gradient_flow_figures import figures
from experiments._networks import network
from experiments._twins import has_body, networks
from resnet_jax.analysis.gradients import adds_to_identity, decompose, flow
from resnet_jax.analysis.responses import has_responses, responses
from resnet_jax.analysis.sweep import split
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array, Plain
from resnet_jax.run import Run

__all__ = ['TITLE', 'check', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'The gradient on its way back'

# name -> axes behind that of the checkpoints, and unit
QUANTITIES = {
    'gradient': (('place',), 'nats per unit'),
    'relative': (('block',), ''),
    'carried': (('block',), ''),
    'cosine': (('block',), ''),
    'response': (('layer',), ''),
    'term_size': (('block', 'branch'), ''),
    'term_along': (('block', 'branch'), ''),
    'residual_size': (('block', 'exact_example'), ''),
    'residual_along': (('block', 'exact_example'), ''),
    'gap': (('block',), ''),
}


def get_config(tier: str) -> ConfigDict:
    """Which depths, how many seeds, and on how many examples."""
    return ConfigDict(
        {
            'tier': tier,
            'depths': {'cpu': (8, 20, 56), 'paper': (20, 56, 110)}[tier],
            'decomposed': {'cpu': (20, 56), 'paper': (20, 110)}[tier],  # depths of the pre-activation networks
            'seeds': (0, 1, 2),
            'statistics': {'cpu': 256, 'paper': 1000}[tier],  # training images that BN's statistics are taken of
            'examples': {'cpu': 64, 'paper': 512}[tier],  # test images
            'exact_examples': {'cpu': 8, 'paper': 32}[tier],  # of these, for the terms of the gradient, in float64
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """The pre-activation networks first; residual and plain ones; all by depth, the deepest first, and by seed."""
    names = [f'preact_resnet{depth}' for depth in sorted(config.decomposed, reverse=True)]
    names += [f'{family}{depth}' for depth in sorted(config.depths, reverse=True) for family in ('resnet', 'plain')]
    return [network(config.tier, name, seed) for name in names for seed in config.seeds]


def check(architectures: Sequence[Architecture]) -> None:
    """The main network must have blocks that enter no stage."""
    if max(architectures[0].stage_blocks) == 1:
        raise UserError(
            'all blocks of this network enter a stage, and none has the identity beside it; gradient_flow needs a '
            'network of 14 layers or more'
        )


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Gradients, their terms and the responses at every checkpoint that was kept."""
    test, steps, found = run.examples('test', config.examples), kept(run), []
    parts = list(split(run.network, run.variables, [test]))
    for number, step in enumerate(steps):
        progress('following the gradient', number, len(steps))
        variables, arch = fresh(run, step, config.statistics), run.network.arch
        each = _gradients(run, variables, parts)
        if has_responses(arch):
            each['response'] = responses(run.network, variables, [images for images, _ in parts])
        if adds_to_identity(arch) and max(arch.stage_blocks) > 1:
            each |= _terms(run, variables, [part[: config.exact_examples] for part in test])
        found.append(each)
    stacked = {
        name: Array(np.stack([each[name] for each in found]), ('checkpoint', *axes), unit)
        for name, (axes, unit) in QUANTITIES.items() if name in found[0]
    }  # fmt: skip
    return {'step': Array(np.array(steps), ('checkpoint',), 'steps'), **stacked}


def _gradients(run: Run, variables: dict, parts: list) -> dict[str, np.ndarray]:
    """Over examples: root mean square, medians and means; NaN where an input has not the shape of its stage's end."""
    flows = [jax.device_get(flow(run.network, variables, *part)) for part in parts]
    size, carried, cosine = (np.concatenate(each, axis=-1) for each in zip(*flows, strict=True))
    there = size[-1] > 0  # a loss that is 0 in float32 has no gradient
    size, carried, cosine = size[:, there], carried[:, there], cosine[:, there]
    arch = run.network.arch
    ends = np.repeat([*arch.entry_blocks[1:], arch.blocks], arch.stage_blocks)
    alike = ~np.isnan(carried).any(axis=-1)
    relative = np.full(arch.blocks, np.nan)
    relative[alike] = np.median(size[:-1][alike] / size[ends][alike], axis=-1)
    return {
        'gradient': np.sqrt(np.mean(np.square(size), axis=-1)),
        'relative': relative,
        'carried': carried.mean(axis=-1),
        'cosine': cosine.mean(axis=-1),
    }


def _terms(run: Run, variables: dict, examples: list) -> dict[str, np.ndarray]:
    """In float64. Of (block, branch) the means over examples; NaN for blocks that enter a stage."""
    arch, (images, labels) = run.network.arch, examples
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), variables)
        images = jnp.asarray(np.asarray(images), jnp.float64)
        stages = jax.device_get(decompose(run.network, wide, images, jnp.asarray(np.asarray(labels))))
    square, row = (arch.blocks, arch.blocks), (arch.blocks, len(labels))
    shapes = {'term_size': square, 'term_along': square, 'residual_size': row, 'residual_along': row, 'gap': row[:1]}
    found = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    for first, blocks, terms in zip(arch.entry_blocks, arch.stage_blocks, stages, strict=True):
        if terms is None:
            continue
        body = slice(first + 1, first + blocks)
        found['term_size'][body, body] = terms.size.mean(axis=-1)
        found['term_along'][body, body] = terms.along.mean(axis=-1)
        found['residual_size'][body], found['residual_along'][body] = terms.residual_size, terms.residual_along
        found['gap'][body] = terms.gap.max(axis=-1)
    return found


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """Medians over seeds, before and after training."""
    table: dict[str, Plain] = {}
    for name, runs in networks(measured).items():
        if has_body(runs[0]):
            first, last = (np.median([span_cosine(run, place) for run in runs]) for place in (0, -1))
            table[f'{name}, cosine over a stage'] = f'{first:.2f} at the start, {last:.2f} at the end'
        if 'residual_along' in runs[0].arrays:
            value = min(nearest_to_cancelling(run) for run in runs)
            table[f'{name}, residual term along the identity term, least'] = f'{value:.2f} (-1 would cancel it)'
            _, cosine, size = (np.median([np.nanmedian(of(run)[-1]) for run in runs]) for of in RESIDUAL_TERM.values())
            table[f'{name}, residual term at the end'] = (
                f'cosine {cosine:.2f} with the identity term, {size:.2f} of its size (medians over blocks)'
            )
        if 'response' in runs[0].arrays:
            table[f'{name}, median response'] = f'{np.median([median_response(run) for run in runs]):.3f}'
    return table


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    said = [
        fresh_note(config.statistics),
        f'Gradients of {config.examples} test images, each of its own loss; the terms of '
        f'{config.exact_examples} of them, in float64. Intervals are the range over seeds.',
        "Healthy: a factor of at most ten over all blocks but the entry blocks. Nearest to cancelling: the block's "
        "median over examples, and half of the identity term is the bound. Both bounds are this project's, set "
        'before anything was measured.',
        'Over a stage: from the input of the first block of its body to its last output, mean over stages.',
    ]
    if not any('gap' in run.arrays for run in measured):
        said.append('No network here adds to the identity with nothing behind the addition (pre-activation): '
                    'the gradient has no exact identity term.')  # fmt: skip
    return said
