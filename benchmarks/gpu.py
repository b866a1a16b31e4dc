"""A GPU against what people would use instead: all of it in one call, at most nine minutes.

./launch.sh bench gpu [--minutes 9] [--out gpu.json] [--only TEXT] [--toy]

A measurement is a process of its own: autotuning differs between processes, and none shares its memory. The candidates
of a row take turns; every row is measured once before any is a second time, and up to three times as long as there is
time for it. What was found is written to --out after each process. --toy: tiny networks, as a trial on any machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import timing

ROUNDS, REPEATS = 3, 7
LONG = 8.0  # seconds of calls that are enough
MOST = 150.0  # seconds that a process may take
SLOW = 'compiled anew'  # one lesion is timed, not all


class Row(NamedTuple):
    """What is measured, of which candidates, by name, `ours` among them. `case`: the network, and numbers."""

    what: str
    kind: str
    case: str
    candidates: tuple[str, ...]


STEP, EPOCH = ('ours', 'torch max-autotune', 'flax'), ('ours', 'ours unrolled', 'torch reduce-overhead', 'torch eager')
LESIONS, SEEDS = ('ours', 'whole networks', SLOW), ('ours', 'one after the other', 'one vmap')
ROWS = (
    Row('ResNet-50 train step, bfloat16, 224 px, batch 256, images/s', 'step', 'resnet50:224:256', STEP),
    Row('CIFAR ResNet-20, whole epochs, batch 128, images/s', 'epoch', 'resnet20:128', EPOCH),
    Row('CIFAR ResNet-110, whole epochs, batch 128, images/s', 'epoch', 'resnet110:128', EPOCH),
    Row('ResNet-110, 54 deletions x 10,000 images, lesions/s', 'lesions', 'preact_resnet110:10000', LESIONS),
    Row('ResNet-20, 8 seeds, batch 128, images/s', 'seeds', 'resnet20:8', SEEDS),
    Row('ResNet-50 train step, bfloat16, 224 px, batch 400, images/s', 'step', 'resnet50:224:400', STEP[:2]),
    Row('CIFAR ResNet-56, whole epochs, batch 128, images/s', 'epoch', 'resnet56:128', EPOCH),
    Row('ResNet-152 train step, bfloat16, 224 px, batch 128, images/s', 'step', 'resnet152:224:128', STEP[:2]),
)
TOY = (
    Row('step', 'step', 'resnet18:32:8', ('ours', 'flax')),
    Row('epoch', 'epoch', 'resnet8:64', ('ours', 'ours unrolled')),
    Row('lesions', 'lesions', 'preact_resnet20:64', LESIONS),
    Row('seeds', 'seeds', 'resnet8:2', SEEDS),
)


def measure(row: Row, candidate: str, *, toy: bool) -> dict[str, float]:
    """In this process: how many a second, and the seconds until the first was done (mostly compiling)."""
    make = {'step': _step, 'epoch': _epoch, 'lesions': _lesions, 'seeds': _seeds}[row.kind]
    name, *numbers = row.case.split(':')
    call, count = make(candidate, name, *map(int, numbers), toy=toy)
    first = _seconds(call)
    seconds = [first] if candidate == SLOW else []
    while candidate != SLOW and len(seconds) < REPEATS and sum(seconds) < LONG:
        seconds.append(_seconds(call))
    return {'rate': count / statistics.median(seconds), 'first': first, 'calls': len(seconds)}


def _seconds(call: Callable) -> float:
    start = time.perf_counter()
    timing.wait(call())
    return time.perf_counter() - start


def _step(candidate: str, name: str, pixels: int, batch: int, *, toy: bool) -> tuple[Callable, int]:
    import dataclasses

    import numpy as np

    from benchmarks import flax_peer, networks
    from resnet_jax import spec
    from resnet_jax.models.resnet import ResNet

    config = networks.config(name)
    config.train.batch_size, config.train.compute = batch, 'float32' if toy else 'bfloat16'
    arch = dataclasses.replace(spec.architecture(config), image_shape=(pixels, pixels, 3))
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = random.integers(0, arch.classes, batch).astype(np.int32)
    if candidate.startswith('torch'):
        from benchmarks import torch_candidates

        calls = torch_candidates.calls(name, arch, config, images, labels, candidate.partition(' ')[2])
    else:
        from benchmarks import jax_candidates

        ours = candidate == 'ours'
        network = ResNet(arch, config.run.scan_from) if ours else flax_peer.ResNet(arch)
        calls = jax_candidates.calls(network, config, images, labels, looped=ours)
    return calls['train step'], batch


def _epoch(candidate: str, name: str, batch: int, *, toy: bool) -> tuple[Callable, int]:
    """With random crops and flips, the images on the device."""
    from benchmarks import seeds
    from configs import cifar10

    config = cifar10.get_config(name)
    config.train.batch_size, examples = batch, 256 if toy else 50_000
    steps = examples // batch
    if candidate.startswith('torch'):
        from benchmarks import torch_candidates
        from resnet_jax import spec

        mode = candidate.partition(' ')[2].replace('eager', '')
        return torch_candidates.epoch(spec.architecture(config), config, examples, mode), steps * batch
    if candidate == 'ours unrolled':
        config.run.scan_from = 1000
    return seeds.unrolled(seeds.setting(config, 1, examples), steps), steps * batch


def _seeds(candidate: str, name: str, count: int, *, toy: bool) -> tuple[Callable, int]:
    from benchmarks import seeds
    from configs import cifar10

    config, examples, steps = cifar10.get_config(name), 256 if toy else 50_000, 2 if toy else 100
    given = seeds.setting(config, count, examples)
    make = {'ours': seeds.unrolled, 'one after the other': seeds.in_sequence,
            'one vmap': partial(seeds.stacked, a_device=False)}[candidate]  # fmt: skip
    return make(given, steps), count * steps * config.train.batch_size


def _lesions(candidate: str, name: str, images: int, *, toy: bool) -> tuple[Callable, int]:
    from benchmarks import lesion, networks
    from resnet_jax.analysis.lesion import single_deletions

    pixels, batch = (8, 32) if toy else (32, 1000)
    network, variables, one, labels = networks.untrained(name, pixels, batch)
    lesions = single_deletions(network.arch)
    made = lesion.ways(network, variables, [(one, labels)] * (images // batch), lesions)
    return made[candidate.replace('ours', 'suffixes')], 1 if candidate == SLOW else len(lesions)


def measured(rows: tuple[Row, ...], minutes: float, out: Path, *, toy: bool) -> dict[str, dict[str, list[dict]]]:
    """{what: {candidate: what each process found}}, as far as the time went."""
    end = time.monotonic() + 60 * minutes
    results: dict[str, dict[str, list[dict]]] = {row.what: {each: [] for each in row.candidates} for row in rows}
    for row, candidate in _turns(rows):
        left = end - time.monotonic()
        if left < 5:
            break
        print(f'{row.what}: {candidate}', file=sys.stderr)
        results[row.what][candidate].append(_in_a_process(row, candidate, left, toy=toy))
        out.write_text(json.dumps(results, indent=1))
    return results


def _turns(rows: tuple[Row, ...]) -> Iterator[tuple[Row, str]]:
    return ((row, each) for _ in range(ROUNDS) for row in rows for each in row.candidates)


def _in_a_process(row: Row, candidate: str, left: float, *, toy: bool) -> dict:
    """What it found, or why not."""
    command = [sys.executable, '-m', 'benchmarks.gpu', '--one', row.what, candidate, *(['--toy'] if toy else [])]
    limit = min(left, MOST)
    told = os.environ | {'JAX_TRACEBACK_FILTERING': 'off'}  # else the last line of an error is not the error
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=told)
    except subprocess.TimeoutExpired:
        return {'error': f'took more than {limit:.0f} s'}
    if done.returncode:
        return {'error': (done.stderr.strip().splitlines() or ['?'])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def shown(results: dict[str, dict[str, list[dict]]]) -> list[tuple]:
    """Rows of (what, candidate, median rate, ours to it, seconds to the first, processes, or what went wrong)."""
    table = []
    for what, candidates in results.items():
        rates = {who: [each['rate'] for each in given if 'rate' in each] for who, given in candidates.items()}
        ours = statistics.median(rates['ours']) if rates['ours'] else None
        for who, given in candidates.items():
            errors = [each['error'] for each in given if 'error' in each]
            if not rates[who]:
                table.append((what, who, '-', '-', '-', errors[0] if errors else 'not measured'))
                continue
            rate, first = (statistics.median(each[key] for each in given if key in each) for key in ('rate', 'first'))
            ratio = f'{ours / rate:.2f}x' if ours else '-'
            table.append((what, who, f'{rate:,.1f}', ratio, f'{first:.1f} s', len(rates[who])))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=9)
    parser.add_argument('--out', type=Path, default=Path('gpu.json'))
    parser.add_argument('--only', default='', metavar='TEXT', help='rows whose name has this in it')
    parser.add_argument('--toy', action='store_true', help='tiny networks')
    parser.add_argument('--one', nargs=2, metavar=('ROW', 'CANDIDATE'), help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = TOY if given.toy else ROWS
    if given.one:
        what, candidate = given.one
        row = next(row for row in rows if row.what == what)
        print(json.dumps(measure(row, candidate, toy=given.toy)))
        return
    results = measured(tuple(row for row in rows if given.only in row.what), given.minutes, given.out, toy=given.toy)
    timing.show(
        'Rates, and ours to each', ('what', 'who', 'rate', 'ours to it', 'first', 'processes'), shown(results),
        f'medians over processes, of up to {REPEATS} calls each after the first; also in {given.out}',
    )  # fmt: skip


if __name__ == '__main__':
    main()
