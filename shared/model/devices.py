"""What a model can be put on: accelerators by name, and hosts by memory and bandwidth.

Figures are the makers' published ones, in bytes and bytes per second; no device is asked.
"""

import msgspec


class Device(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    memory_bytes: int
    bandwidth_bytes_per_second: float
    is_host: bool = False


def _gpu(name: str, memory_bytes: float, bandwidth: float) -> Device:
    return Device(name=name, memory_bytes=int(memory_bytes), bandwidth_bytes_per_second=bandwidth)


HOST_BANDWIDTH = 12 * 4800e6 * 8
"""460.8e9 B/s: twelve channels of DDR5-4800, eight bytes wide each (one AMD EPYC 9004 socket)."""

GPUS: dict[str, Device] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100", 80e9, 2.039e12),  # NVIDIA A100 datasheet, 80 GB SXM: 80 GB, 2,039 GB/s
        _gpu("h100", 85.5e9, 3.35e12),  # H100 SXM datasheet: 80 GB, 3.35 TB/s; its driver reports 81,559 MiB
        _gpu("h200", 141e9, 4.8e12),  # NVIDIA H200 datasheet: 141 GB, 4.8 TB/s; the published, not the reported size
        _gpu("b200", 180e9, 8e12),  # NVIDIA DGX B200 datasheet: eight have 1,440 GB and 64 TB/s
        _gpu("l20", 48e9, 864e9),  # NVIDIA L20: 48 GB GDDR6, 864 GB/s
        _gpu("l40s", 48e9, 864e9),  # NVIDIA L40S datasheet: 48 GB GDDR6, 864 GB/s
        _gpu("rtx-4090", 24e9, 1.008e12),  # NVIDIA Ada whitepaper: 24 GB GDDR6X, 1,008 GB/s
        _gpu("rtx-5090", 32e9, 1.792e12),  # NVIDIA Blackwell whitepaper: 32 GB GDDR7, 1,792 GB/s
    )
}


def host(memory_bytes: int, bandwidth: float = HOST_BANDWIDTH) -> Device:
    """One host without GPU."""
    return Device(name="host", memory_bytes=memory_bytes, bandwidth_bytes_per_second=bandwidth, is_host=True)
