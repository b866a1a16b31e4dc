"""The claims of the gradient flow experiment, and the statistics that are held against them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from experiments._checkpoints import claim_of_seeds, claimed
from experiments._twins import Networks, has_body, neighbours, networks, twins
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval

RESIDUAL = 'He et al. 2015, arXiv 1512.03385'
IDENTITY = 'He et al. 2016, arXiv 1603.05027, equation 5'
EXACT, HALF, HEALTHY = 1e-10, -0.5, 1.0  # relative; of the identity term; in powers of ten


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Seed by seed; what is said must hold in all seeds."""
    claim = partial(claim_of_seeds, data=measured[0].data, images=config.examples)
    term_claim = partial(claim, figure='gradient_flow_terms', source=IDENTITY, images=config.exact_examples)
    return _term_claims(measured, term_claim) + _flow_claims(measured, claim) + _response_claims(measured, claim)


def _term_claims(measured: Sequence[Measured], claim: Callable[..., Claim]) -> list[Claim]:
    """Of each network that adds to the identity."""
    made = []
    for name, runs in decomposed(measured).items():
        made += [
            claim(
                [np.nanmax(run['gap']) for run in runs],
                statement='Within a stage the gradient is the identity term plus a term for every residual branch '
                f'({name})',
                quantity='largest relative difference between the sum and the gradient, all blocks and steps',
                expected='0', accept=Interval(0.0, EXACT),
            ),
            claim(
                [nearest_to_cancelling(run) for run in runs],
                statement=f'The residual term nowhere cancels the identity term ({name})',
                quantity='residual term along the identity term: least median of a block, all blocks and steps',
                expected='not -1 for all examples of a batch', accept=Interval(float(np.nextafter(HALF, 1)), np.inf),
            ),
        ]  # fmt: skip
    return made


def _flow_claims(measured: Sequence[Measured], claim: Callable[..., Claim]) -> list[Claim]:
    """Of the deepest plain network and its residual twin."""
    deep = {depth: pairs for depth, pairs in twins(measured).items() if has_body(pairs[0][0])}
    if not deep:
        return []
    depth = max(deep)
    made = []
    for place, when in claimed(deep[depth]):
        made += [
            claim(
                [growth(plain, place) for _, plain in deep[depth]], figure='gradient_flow_gradient',
                source=f'{RESIDUAL}, section 4.1',
                statement=f'Plain networks with BN have healthy gradients ({depth} layers, {when})',
                quantity='log10 of the factor on the way back, all blocks but the entry blocks',
                expected='neither vanishing nor exploding', accept=Interval(-HEALTHY, HEALTHY),
            ),
            claim(
                [span_cosine(run, place) - span_cosine(plain, place) for run, plain in deep[depth]],
                figure='gradient_flow_cosine', source=IDENTITY, accept=ABOVE_ZERO,
                statement=f'With shortcuts the gradient keeps its direction better ({depth} layers, {when})',
                quantity='difference of the cosines between the gradient before and behind a stage',
                expected='above 0: the identity carries it',
            ),
        ]  # fmt: skip
    return made


def _response_claims(measured: Sequence[Measured], claim: Callable[..., Claim]) -> list[Claim]:
    """Of figure 7: residual against plain, and by depth."""
    claim = partial(claim, figure='gradient_flow_responses', source=f'{RESIDUAL}, section 4.2 and figure 7',
                    accept=ABOVE_ZERO)  # fmt: skip
    made = [
        claim(
            [median_response(plain) - median_response(run) for run, plain in pairs],
            statement=f'Residual networks have smaller responses than plain ones ({depth} layers)',
            quantity='difference of the median standard deviations of the layers, plain minus residual',
            expected='above 0',
        )
        for depth, pairs in twins(measured).items() if 'response' in pairs[0][0].arrays
    ]  # fmt: skip
    return made + [
        claim(
            [median_response(one) - median_response(other) for one, other in pairs],
            statement=f'The deeper residual network has the smaller responses ({deep} layers against {shallow})',
            quantity='difference of the median standard deviations of the layers, shallow minus deep',
            expected='above 0 (110 below 56 below 20)',
        )
        for (shallow, deep), pairs in neighbours(measured).items() if 'response' in pairs[0][0].arrays
    ]  # fmt: skip


def decomposed(measured: Sequence[Measured]) -> Networks:
    """The networks whose gradient was taken apart, the deepest first."""
    return {name: runs for name, runs in networks(measured).items() if 'gap' in runs[0].arrays}


def bodies(run: Measured) -> list[int]:
    """Index of the first block of every stage's body."""
    return [first + 1 for first, blocks in zip(run.arch.entry_blocks, run.arch.stage_blocks, strict=True) if blocks > 1]


def growth(run: Measured, checkpoint: int) -> float:
    """log10 of the factor by which the gradient's norm grows on its way back, through the bodies of all stages."""
    return float(np.sum(np.log10(run['relative'][checkpoint, bodies(run)])))


def span_cosine(run: Measured, checkpoint: int) -> float:
    """Cosine between the gradients in front of a stage's body and behind it, mean over stages."""
    return float(np.mean(run['cosine'][checkpoint, bodies(run)]))


def nearest_to_cancelling(run: Measured) -> float:
    """The residual term along the identity term, in units of that: of every block the median over examples, of these
    the least over all blocks and checkpoints."""
    inner = ~np.isnan(run['residual_along']).any(axis=(0, 2))
    return float(np.median(run['residual_along'][:, inner], axis=-1).min())


def residual_cosine(run: Measured) -> np.ndarray:
    """Between the residual term and the identity term, (checkpoint, block, example); NaN where there is no term, or
    one that is 0."""
    with np.errstate(invalid='ignore'):
        return run['residual_along'] / run['residual_size']


# Against the identity term and in units of it, (checkpoint, block, example)
RESIDUAL_TERM: dict[str, Callable[[Measured], np.ndarray]] = {
    'along the identity term': lambda run: run['residual_along'],
    'cosine with it': residual_cosine,
    'size, relative to it': lambda run: run['residual_size'],
}


def median_response(run: Measured) -> float:
    """After training, over layers."""
    return float(np.median(run['response'][-1]))
