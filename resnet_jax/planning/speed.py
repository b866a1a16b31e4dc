"""How long a step takes. No JAX.

    work     = max(FLOPs / (MATH x peak), bytes moved / (MEMORY x memory bandwidth))
    hidden   = max(work, gradients and parameters sent / bandwidth) + BN's sums sent / bandwidth
    unhidden = work + gradients and parameters sent / bandwidth + BN's sums sent / bandwidth

FLOPs are 2 x multiply-adds x 3 (forward, gradient of the input, gradient of the kernel), and the forward pass of what
is computed again. Bytes moved are those of the layers' inputs and results, each read or written by every pass that
needs it, with BN's statistics, its result and its two backward passes as passes of their own and ReLU and the sum
fused with them; and of parameters, gradients and optimizer state in the update. Gradients may be sent while others are
computed; BN's sums are waited for, one after the other. Not in it: what a message or a kernel takes however small it
is, which rules where a device has few or small images; the optimizer's arithmetic; the data.
"""

import math
from typing import NamedTuple

from resnet_jax.planning import memory, sent
from resnet_jax.planning.devices import Device
from resnet_jax.planning.setup import Setup, layers
from resnet_jax.planning.units import units

FORWARD, TRAINING = 2, 6  # FLOPs of a multiply-add, forward and with both gradients
MATH = 0.6  # of the peak: what large convolutions reach (an assumption)
MEMORY = 0.9  # of the memory bandwidth: 4.3 of 4.8 TB/s, measured on an H200


class Step(NamedTuple):
    """Seconds: arithmetic, memory, sending (gradients and parameters; BN's sums), and the bounds of all."""

    math: float
    memory: float
    gradients: float
    statistics: float

    @property
    def work(self) -> float:
        return max(self.math, self.memory)

    @property
    def hidden(self) -> float:
        return max(self.work, self.gradients) + self.statistics

    @property
    def unhidden(self) -> float:
        return self.work + self.gradients + self.statistics


def flops(setup: Setup) -> int:
    """Of a step, on all devices."""
    found = layers(setup.arch)
    blocks = sum(layer.multiply_adds for layer in found if layer.name.startswith('stage'))
    again = 0 if setup.remat == 'none' else FORWARD * blocks
    return setup.batch * (TRAINING * sum(layer.multiply_adds for layer in found) + again)


def moved(setup: Setup) -> float:
    """Bytes that a step moves through a device's memory."""
    found = units(setup.arch, setup.itemsize)
    again = 0 if setup.remat == 'none' else sum(unit.forward for unit in found[1:-1])
    example = sum(unit.forward + unit.backward for unit in found) + again
    held = memory.state(setup)
    # The update reads and writes what it changes, and reads the gradients.
    update = 2 * sum(held.values()) + memory.FLOAT32 * memory.parameters(setup).own
    return setup.batch / setup.devices * example + update


def step(setup: Setup, device: Device) -> Step | None:
    """How long a step takes; None where the device does not say enough for it."""
    peak, bandwidth = getattr(device, setup.compute), device.sends(setup.devices)
    if setup.devices == 1:
        bandwidth = math.inf
    if not peak or not device.memory_bandwidth or not bandwidth:
        return None
    return Step(
        flops(setup) / setup.devices / (MATH * peak),
        moved(setup) / (MEMORY * device.memory_bandwidth),
        sum(sent.gradients(setup).values()) / bandwidth,
        sent.bn_bytes(setup) / bandwidth,
    )


class Scaled(NamedTuple):
    """On `devices`: images/s, and the share of `devices` times what one does; weak: the batch of a device stays."""

    devices: int
    weak: float
    weak_share: float
    strong: float
    strong_share: float


def scaling(setup: Setup, device: Device) -> list[Scaled]:
    """From one device on, doubled up to all, if communication is hidden as far as it can be.

    Shares are above 1 where parameters are cut: each device then updates fewer.
    """

    def rate(devices: int, batch: int) -> float:
        fewer = setup._replace(devices=devices, batch=batch, fsdp=math.gcd(setup.fsdp, devices))
        found = step(fewer, device)
        return batch / found.hidden if found else math.nan

    share, rows = setup.batch // setup.devices, []
    one_weak, one_strong = rate(1, share), rate(1, setup.batch)
    for devices in [*(2**k for k in range(setup.devices.bit_length()) if 2**k < setup.devices), setup.devices]:
        weak, strong = rate(devices, share * devices), rate(devices, setup.batch)
        rows.append(Scaled(devices, weak, weak / devices / one_weak, strong, strong / devices / one_strong))
    return rows
