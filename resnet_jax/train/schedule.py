"""Learning rate as a function of the step."""

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(schedule: ConfigDict) -> optax.Schedule:
    """The schedule of `config.train.schedule`: a warm-up, then steps or a cosine. Boundaries count from step 0."""
    rate = _rate(schedule)
    return lambda step: rate(jnp.asarray(step, jnp.float32))  # exact up to step 2**24; optax mixes the two types


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
