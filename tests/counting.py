"""Counting: how many blocks has a network?

The smallest experiment there is; a file as any other, which the tests read by its path.
"""

import os
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax.errors import UserError
from resnet_jax.experiment import Drawing
from resnet_jax.report import figures as style
from resnet_jax.report.claims import Claim, Interval
from resnet_jax.report.findings import Array

TITLE = 'Blocks'


def get_config(tier):
    return ConfigDict({'seeds': (0, 1), 'rates': (0.1,), 'least': 1})


def runs(config):
    made = []
    for seed in config.seeds:
        for rate in config.rates:
            made.append(configuration.load(str(Path(__file__).with_name('tiny.py'))))
            made[-1].seed = seed
            made[-1].train.schedule.learning_rate = rate
    return made


def check(architectures):
    if architectures[0].plain:
        raise UserError('the blocks of a plain network are not counted')


def measure(run, config, progress):
    if os.environ.get('STOP_AT_SEED') == str(run.config.seed):
        raise KeyboardInterrupt
    return {'blocks': Array(np.array([run.network.arch.blocks]), ('run',), 'blocks')}


def claims(measured, config):
    value = float(np.median([each['blocks'] for each in measured]))
    return [
        Claim(
            statement='It has a block', source='here', quantity='blocks', expected='1', form='shape', measured=value,
            accept=Interval(config.least, np.inf), interval=Interval(value, value), n=f'{len(measured)} runs',
            data=measured[0].data, figure='counting_blocks',
        )
    ]  # fmt: skip


def figures(measured, config):
    drawn, ((axes,),) = style.figure(1, 1)
    axes.bar([each.seed for each in measured], [int(each['blocks'][0]) for each in measured])
    return {'blocks': Drawing(drawn, 'Blocks by seed.', {'seed': [each.seed for each in measured]})}


def summary(measured, config):
    return {'runs': len(measured), 'depth': measured[0].depth}


def notes(measured, config):
    return ['Counted once.']
