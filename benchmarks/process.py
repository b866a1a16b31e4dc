"""What a process costs beside its steps: the time from its start to the first step, cold and with compiled programs
kept, its peak memory; and how soon `import resnet_jax` and `resnet-jax --help` are there.

./launch.sh bench process [NAME:PIXELS:BATCH …]
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

CASES = ('resnet110:32:128', 'resnet50:224:16')
REPEATS = 3
OURS = ('ours, nothing kept', 'ours, compiled before')  # the second finds what the first has kept


def one(who: str, case: str) -> None:
    """In a process of its own: says when the first step is done, takes two more, and says its peak memory in MiB."""
    from benchmarks import step, timing

    if who == 'ours':
        from resnet_jax.runtime import compiled

        compiled.keep()
    name, pixels, batch = case.split(':')
    run = step.calls(who, name, int(pixels), int(batch))['train step']
    timing.wait(run())
    print('first', flush=True)
    timing.wait(run())
    timing.wait(run())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


def measured(who: str, case: str, cache: str) -> tuple[float, int]:
    """Seconds from the start of a process to its first step; peak memory in MiB."""
    command = [sys.executable, '-m', 'benchmarks.process', '--one', who, case]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {'XDG_CACHE_HOME': cache}
    ) as run:
        assert run.stdout is not None
        if run.stdout.readline() != 'first\n':
            sys.exit(f'{" ".join(command)} failed')
        return time.perf_counter() - start, int(run.stdout.read())


def rows(case: str) -> list[tuple]:
    found: dict[str, list] = {'PyTorch': [], **{who: [] for who in OURS}}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            found['PyTorch'].append(measured('PyTorch', case, cache))
            for who in OURS:
                found[who].append(measured('ours', case, cache))
    return [
        (f'{case}: {who}', f'{statistics.median(seconds):.1f} s', f'{statistics.median(peaks):,.0f} MiB')
        for who, (seconds, peaks) in ((who, zip(*values, strict=True)) for who, values in found.items())
    ]


def lightness() -> list[tuple]:
    """Seconds of what a user waits for before anything is asked of the library."""
    commands = {
        'import resnet_jax': ['-c', 'import resnet_jax'],
        'resnet-jax --help': ['-m', 'resnet_jax.cli', '--help'],
    }
    return [(what, f'{statistics.median(_seconds(command) for _ in range(7)):.2f} s', '-')
            for what, command in commands.items()]  # fmt: skip


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == '__main__':
    if sys.argv[1:2] == ['--one']:
        one(*sys.argv[2:])
    else:
        from benchmarks import timing

        table = [row for case in sys.argv[1:] or CASES for row in rows(case)] + lightness()
        timing.show('From the start of a process', ('what', 'first step, or all', 'peak memory'), table,
                    f'medians of {REPEATS} processes in turns')  # fmt: skip
