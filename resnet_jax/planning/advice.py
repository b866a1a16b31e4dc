"""Does it fit the memory, what would make it fit, and what is to be said for more. No JAX."""

from collections.abc import Iterator
from itertools import islice

from resnet_jax.planning.devices import DEVICES, Device
from resnet_jax.planning.memory import held
from resnet_jax.planning.setup import Setup


def advice(setup: Setup, device: Device) -> Iterator[str]:
    """Whether it fits, where the device's memory is known; which flags would say more, where there are any."""
    if device.memory is not None:
        yield _verdict(setup, device.memory)
    flags = {
        '--memory GB': device.memory,
        '--flops TFLOPS': getattr(device, setup.compute),
        '--memory-bandwidth GB/s': device.memory_bandwidth,
        '--bandwidth GB/s': device.sends(setup.devices) or setup.devices == 1,
    }
    missing = [flag for flag, value in flags.items() if not value]
    if missing:
        named = f'--device NAME ({", ".join(DEVICES)}), or ' if device == Device() else ''
        asked = 'whether it fits and how long a step takes' if device.memory is None else 'how long a step takes'
        yield f'for {asked}: {named}{", ".join(missing)}'


def _verdict(setup: Setup, memory: float) -> str:
    needed = _needed(setup, memory)
    compared = f'{needed / 1e9:.1f} of {memory / 1e9:.1f} GB on each device'
    if needed <= memory:
        return f'fits the memory: {compared}, before the workspaces of XLA'
    helping = [text for text, changed in _changes(setup) if _needed(changed, memory) <= memory]
    parts = (n for n in _microbatches(setup) if _needed(setup._replace(microbatches=n), memory) <= memory)
    helping += [f'config.train.microbatches={n}' for n in islice(parts, 1)]
    help = f'it would with {" or ".join(helping)}' if helping else 'use more devices, fewer pixels or a smaller network'
    return f'does not fit the memory: {compared}; {help}'


def _needed(setup: Setup, memory: float) -> int:
    return sum(held(setup, memory).values())


def _changes(setup: Setup) -> Iterator[tuple[str, Setup]]:
    """Settings that may take less memory, each alone."""
    new = {'train.compute': 'bfloat16', 'run.fsdp': setup.devices, 'run.remat': 'block'}
    for key, value in new.items():
        yield f'config.{key}={value}', setup._replace(**{key.split('.')[1]: value})


def _microbatches(setup: Setup) -> Iterator[int]:
    """All larger numbers of them that the batch can be dealt out in, the fewest first."""
    share, group = setup.batch // setup.devices, setup.arch.norm_examples or 1
    more = range(setup.microbatches + 1, share + 1)
    return (n for n in more if share % n == 0 and setup.batch // n % group == 0)
