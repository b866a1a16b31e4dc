"""What devices can do, by their public data sheets. No JAX."""

from typing import NamedTuple

from resnet_jax.errors import UserError


class Device(NamedTuple):
    """One device; None: unknown.

    Attributes:
      bfloat16, float32: FLOP/s of dense products as JAX computes them by default (float32: TF32, or bfloat16 passes).
      memory: bytes.
      memory_bandwidth: bytes/s.
      bandwidth: bytes/s that it sends to the others of its machine, or pod; `beside`: how many these are with it.
      network: bytes/s that a ring through several machines passes on: that of all ports of a machine.
    """

    bfloat16: float | None = None
    float32: float | None = None
    memory: float | None = None
    memory_bandwidth: float | None = None
    bandwidth: float | None = None
    beside: int = 1
    network: float | None = None

    def sends(self, devices: int) -> float | None:
        """Bytes/s that each sends where there are so many."""
        return self.bandwidth if devices <= self.beside else self.network


DEVICES = {
    # NVIDIA H100 SXM data sheet: 1,979 and 989 TFLOPS with sparsity, half of that dense; 80 GB, 3.35 TB/s; NVLink
    # 900 GB/s, both directions. DGX H100 data sheet: eight of them, and eight network ports of 400 Gb/s.
    'h100': Device(989.5e12, 494.5e12, 80e9, 3.35e12, 450e9, 8, 400e9),
    # NVIDIA H200 SXM data sheet: the same but for 141 GB and 4.8 TB/s. DGX H200: as DGX H100.
    'h200': Device(989.5e12, 494.5e12, 141e9, 4.8e12, 450e9, 8, 400e9),
    # NVIDIA A100 80GB SXM data sheet: 312 and 156 TFLOPS dense, 2,039 GB/s; NVLink 600 GB/s, both directions. DGX
    # A100 data sheet: eight of them, and eight network ports of 200 Gb/s.
    'a100': Device(312e12, 156e12, 80e9, 2.039e12, 300e9, 8, 200e9),
    # Google Cloud, TPU v5e, system architecture: 197 TFLOPS, 16 GB, 819 GB/s; 400 GB/s to other chips, both
    # directions, in a pod of 256.
    'tpu_v5e': Device(197e12, 197e12, 16e9, 0.819e12, 200e9, 256),
    # AMD EPYC 9654 data sheet, one socket: 96 cores at 2.4 GHz (of 32 float32 FLOP a cycle, Zen 4), twelve channels of
    # DDR5-4800; with 32 GB in each. bfloat16 is twice as fast (AVX512_BF16).
    'cpu': Device(14.7e12, 7.37e12, 384e9, 0.4608e12),
}


KINDS = {  # what JAX calls them
    'NVIDIA H100 80GB HBM3': 'h100',
    'NVIDIA H200': 'h200',
    'NVIDIA A100-SXM4-80GB': 'a100',
    'TPU v5 lite': 'tpu_v5e',
}


def of_kind(kind: str) -> Device:
    """The device that JAX calls so; one of which nothing is known, where it is none of these."""
    return DEVICES[KINDS[kind]] if kind in KINDS else Device()


def device(name: str | None, given: dict[str, float | None]) -> Device:
    """The device of that name, or one of which nothing is known, with what is given in place of its own.

    Args:
      given: flops (of the run's dtype), bandwidth, memory_bandwidth, memory, in FLOP/s, bytes/s and bytes.

    Raises:
      UserError: an unknown name.
    """
    if name and name not in DEVICES:
        raise UserError(f'--device {name} is unknown; there are {", ".join(DEVICES)}, or give the flags of one')
    known = DEVICES[name] if name else Device()
    own = {key: value for key, value in given.items() if value is not None}
    if 'flops' in own:
        own['bfloat16'] = own['float32'] = own.pop('flops')
    if 'bandwidth' in own:
        own['network'] = own['bandwidth']
    return known._replace(**own)
