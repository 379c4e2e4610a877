"""What the CPU of this machine can do itself."""

from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_FLAGS = {"avx512_bf16", "amx_bf16"}


def multiplies_bfloat16(cpu_info: Path = _CPU_INFO) -> bool:
    """Whether it has instructions for products of bfloat16.

    Linux says so in `cpu_info`; where there is no such file, nobody vouches for it.
    """
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _FLAGS.isdisjoint(flags.split())
