"""Fills in what only the data know of a config."""

from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.data.order import plan
from resnet_jax.data.sources import load, opened
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress, silent
from resnet_jax.spec import DATASETS

PIXELS = 224  # what photographs of any size are seen at, where nothing else is said


def resolve(config: ConfigDict, progress: Progress = silent) -> None:
    """Fills in what only the data know: the images' shape, the labels and the fingerprint of a dataset that is not in
    `spec.DATASETS`, and the steps of what is given in epochs.

    Raises:
      UserError: the dataset is not there, or has more classes than `data.labels`.
    """
    data = config.data
    if data.dataset == 'folder' and data.data_dir:
        data.data_dir = str(Path(data.data_dir).expanduser().absolute())  # the run is read from elsewhere too
    if data.dataset not in DATASETS:
        found = opened(data, progress)
        if data.labels and data.labels < len(found.classes):
            raise UserError(f'config.data.labels is {data.labels}, but {data.dataset} has {len(found.classes)} '
                            'classes; set it to 0 for as many outputs as classes')  # fmt: skip
        data.update(
            labels=data.labels or len(found.classes), channels=data.channels or found.channels,
            pixels=data.pixels or (min(found.shape) if found.shape else PIXELS), fingerprint=found.fingerprint,
        )  # fmt: skip
    if config.unit == 'epoch':
        _epochs_to_steps(config, load(data, progress).count('train'))


def _epochs_to_steps(config: ConfigDict, examples: int) -> None:
    """Turns what counts epochs into what counts steps."""
    batches = (config.train.batch_size, *config.train.phases.batch_sizes)
    if not 1 <= min(batches) <= max(batches) <= examples:
        return  # such a batch is refused where it is checked
    steps = plan(config, examples, 0).steps
    schedule, run = config.train.schedule, config.run
    schedule.update(boundaries=tuple(map(steps, schedule.boundaries)), steps=steps(schedule.steps),
                    warmup_steps=steps(schedule.warmup_steps))  # fmt: skip
    average = steps(run.steps) / run.steps  # of the phases, whose epochs differ in steps
    run.update(steps=steps(run.steps), eval_every=round(run.eval_every * average),
               save_every=max(1, round(run.save_every * average)),
               snapshots=tuple(map(steps, run.snapshots)))  # fmt: skip
    config.unit = 'step'
