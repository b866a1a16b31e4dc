"""Measurements of trained networks, made up: what `experiments/_training.py` measures, with given errors."""

import numpy as np

from experiments._networks import network
from experiments._training import diverged
from resnet_jax.experiment import Measured
from resnet_jax.report.findings import Array


def trained(name, seed=0, *, training=0.0, test=0.0, tier='cpu', **settings):
    """A run that ended with these errors, in percent."""
    config = network(tier, name, seed, **settings)
    steps = np.array([10, 20, 30])
    course = {'training_steps': Array(steps, ('record',), 'steps'),
              'training_errors': Array(np.linspace(90, training, 3), ('record',), '%'),
              'test_steps': Array(steps[-1:], ('record',), 'steps'),
              'test_errors': Array(np.array([float(test)]), ('record',), '%')}  # fmt: skip
    ends = {'training_error': (training, '%'), 'training_loss': (training / 30, 'nats'), 'test_error': (test, '%')}
    ends = {key: Array(np.array(float(value)), (), unit) for key, (value, unit) in ends.items()}
    return Measured(config, name, 330, course | ends)


def failed(name, seed=0, *, tier='cpu', **settings):
    """A run whose training diverged."""
    config = network(tier, name, seed, **settings)
    return Measured(config, name, 0, diverged(config))


def verdicts(module, measured, settings):
    """statement -> verdict. Every figure is drawn too, and every claim points to one."""
    figures = module.figures(measured, settings)
    claims = module.claims(measured, settings)
    name = module.__name__.rpartition('.')[2]
    assert {claim.figure for claim in claims} <= {f'{name}_{figure}' for figure in figures}
    for drawing in figures.values():
        assert len({len(column) for column in drawing.numbers.values()}) == 1
    assert module.summary(measured, settings) and module.notes(measured, settings)
    assert len({claim.statement for claim in claims}) == len(claims)
    return {claim.statement: claim.verdict for claim in claims}


def the(found, *words):
    """The verdict on the one statement that has these words."""
    (verdict,) = [verdict for statement, verdict in found.items() if all(word in statement for word in words)]
    return verdict
