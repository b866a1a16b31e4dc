"""Learning rate as a function of the step."""

import math

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """The schedule of `config.train`: a warm-up, then steps or a cosine. Boundaries count from step 0.

    All its rates are scaled with the batch, k times `scaling_batch`: linear, times k (Goyal et al. 2017, arXiv
    1706.02677, section 2.1); sqrt, times √k (Krizhevsky 2014, arXiv 1404.5997).
    """
    schedule = train.schedule
    ratio = train.batch_size / schedule.scaling_batch
    factor = {'none': 1.0, 'linear': ratio, 'sqrt': math.sqrt(ratio)}[schedule.scaling]
    rate = _rate(schedule)
    return lambda step: factor * rate(jnp.asarray(step, jnp.float32))  # exact up to step 2**24; optax mixes the types


def _rate(schedule: ConfigDict) -> optax.Schedule:
    warmup = schedule.warmup_steps if schedule.warmup != 'none' else 0
    if schedule.name == 'steps':
        drops = {boundary - warmup: schedule.factor for boundary in schedule.boundaries}
        main = optax.piecewise_constant_schedule(schedule.learning_rate, drops)
    else:
        main = optax.cosine_decay_schedule(schedule.learning_rate, max(1, schedule.steps - warmup))
    if warmup == 0:
        return main
    if schedule.warmup == 'constant':
        first = optax.constant_schedule(schedule.warmup_rate)
    else:
        first = optax.linear_schedule(0.0, schedule.learning_rate, warmup)
    return optax.join_schedules([first, main], [warmup])
