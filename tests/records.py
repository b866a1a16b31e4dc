"""The records of a run, to be compared."""

from resnet_jax.runtime import directory

TIMED = {'seconds', 'images_per_second', 'images_per_second_per_device', 'teraflops_per_device', 'mfu'}


def records(run_dir):
    """What is recorded so far, but for the time it took."""
    return [{k: v for k, v in record.items() if k not in TIMED} for record in directory.read_metrics(run_dir)]
