"""What a sweep costs beside its runs: scheduling a run on this machine, and reading how all of them stand.

./launch.sh bench sweep [RUNS]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import timing
from configs import digits
from resnet_jax import spec
from resnet_jax.runtime import result
from resnet_jax.sweep import Sweep, local, plan, seeds, state
from resnet_jax.sweep.grid import Value
from resnet_jax.sweep.work import Stop, Task

COMMAND = ('sh', '-c', 'mv "$1/ready.json" "$1/result.json"', 'sh')  # a run that takes no time
MANY = 10_000  # runs whose statuses are read


def scheduling(runs: int, folder: Path) -> list[tuple]:
    """Rows of a run's time in a sweep, one slot, and of its process alone; the difference is the sweep's."""
    sweep = state.create(
        folder / 'sweep', 'seeds', '', plan.plan(Sweep(digits.get_config('resnet20'), seeds(runs)), {})
    )
    alone = []
    for number, name in enumerate(sweep.runs):
        run_dir = sweep.run(name)
        result.write(run_dir, spec.identity(state.directory.read_config(run_dir)), {'step': 330, 'diverged': False})
        (run_dir / 'result.json').rename(run_dir / 'ready.json')
        alone.append(folder / str(number))
        alone[-1].mkdir()
        (alone[-1] / 'ready.json').touch()
    start = time.perf_counter()
    for path in alone:
        subprocess.run([*COMMAND, str(path)], check=True)
    process = (time.perf_counter() - start) / runs
    tasks = [Task(sweep.path, name, COMMAND) for name in sweep.runs]
    start = time.perf_counter()
    for _ in local.launch(tasks, [local.Slot({}, ())], Stop()):
        pass
    swept = (time.perf_counter() - start) / runs
    assert all(found.state == 'done' for found in sweep.statuses().values())
    return [
        (f'a run of {runs:,}, its process alone', _ms(process), ''),
        ('the same in a sweep, one slot', _ms(swept), _ms(swept - process) + ' more'),
    ]


def statuses(folder: Path) -> list[tuple]:
    """Rows of how long it takes to read how many runs stand."""
    runs: dict[str, dict[str, Value]] = {f'run-{number}': {'seed': number} for number in range(MANY)}
    for name in runs:
        (folder / name).mkdir()
        state.write_status(folder / name, state.Status('done', 'here', 1, 1.0, 2.0, 1))
    sweep, taken = state.Directory(folder, 'large', '', runs), []
    for _ in range(5):
        start = time.perf_counter()
        sweep.statuses()
        taken.append(time.perf_counter() - start)
    return [(f'statuses of {MANY:,} runs', _ms(sorted(taken)[2]), '')]


def _ms(seconds: float) -> str:
    return f'{1000 * seconds:,.1f} ms'


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / 'many').mkdir()
        rows = scheduling(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, Path(folder))
        rows += statuses(Path(folder) / 'many')
    timing.show(
        'Sweeps on this machine', ('what', 'time', 'the difference'), rows, 'means over the runs; statuses: median of 5'
    )
