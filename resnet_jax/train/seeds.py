"""Several seeds of one config (`train.seeds`): a run each, trained together.

On a CPU each is its single run to the bit, whatever becomes of the others (tests/train/test_seeds.py). It is no faster
there than one after the other (benchmarks/README.md).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from resnet_jax import memory, spec
from resnet_jax.errors import Diverged, UserError
from resnet_jax.planning.memory import held
from resnet_jax.planning.setup import setup
from resnet_jax.train.splits import Splits

Runs = dict[Path, ConfigDict]  # by their directories
Watch = Callable[[dict], None]


def runs(config: ConfigDict, run_dir: Path) -> Runs:
    """The runs of a config: itself in `run_dir`; or of several seeds one each, in `run_dir`/seed0, …, as if it had been
    started there alone."""
    seeds = spec.seeds(config)
    return {run_dir / f'seed{seed}': _alone(config, seed) for seed in seeds} if len(seeds) > 1 else {run_dir: config}


def _alone(config: ConfigDict, seed: int) -> ConfigDict:
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.seed, own.train.seeds = seed, 1
    return own


def watching(watch: Watch, config: ConfigDict) -> Watch:
    """What hears the records of one of several runs, and passes them on with its seed."""
    return lambda record: watch({**record, 'seed': config.seed})


def check_processes(found: Runs) -> None:
    """Refuses several networks in several processes.

    Raises:
      UserError: the run has both.
    """
    if len(found) > 1 and jax.process_count() > 1:
        raise UserError(f'config.train.seeds is {len(found)}, and the run has {jax.process_count()} processes, which '
                        'train one network together; start one process, or set seeds to 1')  # fmt: skip


def groups(config: ConfigDict, found: Runs, splits: Splits, watch: Watch) -> list[Runs]:
    """Those of the runs that are trained together, group by group: as many as the device's memory has room for, by what
    `resnet-jax plan` counts of each; groups as even as can be.

    Raises:
      UserError: the images are streamed, in the order of one seed.
    """
    if len(found) == 1:
        return [found]
    if splits.training_streamed:
        raise UserError(f'config.train.seeds is {len(found)}, which takes training images that stay on the device, but '
                        'these are streamed (run.placement, data.crop, their size); train one seed after the other: '
                        '--config.seed=N')  # fmt: skip
    planned = held(setup(config, jax.device_count()), None)
    each = sum(planned.values()) - planned.get('images', 0)
    images = sum(leaf.nbytes for leaf in jax.tree.leaves((splits.train, splits.test)))
    room = max(1, (memory.room() - images) // each)
    count = -(-len(found) // room)
    if count > 1:
        watch({'kind': 'note', 'text': f'{len(found)} networks of {each / 1e9:,.2f} GB do not fit the memory together: '
               f'they are trained in {count} groups, one after the other'})  # fmt: skip
    items = list(found.items())
    return [dict(items[len(items) * part // count : len(items) * (part + 1) // count]) for part in range(count)]


def conclude(found: Runs, ended: Mapping[int, Diverged], watch: Watch) -> None:
    """Says which seeds diverged.

    Args:
      ended: by seed, those that did.

    Raises:
      Diverged: all did.
    """
    if not ended:
        return
    first, named = next(iter(ended.values())), ', '.join(map(str, sorted(ended)))
    if len(found) == 1:
        raise first
    if len(ended) == len(found):
        raise Diverged(f'the networks of all seeds ({named}) diverged; the first: {first}')
    many = 'seeds' if len(ended) > 1 else 'seed'
    watch({'kind': 'note', 'text': f'{many} {named} diverged, the others did not; metrics.jsonl in each directory says '
           'where'})  # fmt: skip
