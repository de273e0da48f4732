"""The cores of a replica's engine: VLLM_CPU_OMP_THREADS_BIND, which vLLM reads on a CPU only.

Left to itself each engine of a machine takes the same cores, since none knows of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

PARALLEL = ("-tp", "-pp", "-dp")


def cores_of(
    number: int,
    *,
    bind_cores: Sequence[str] = (),
    cpus: float = 0,
    allowed: Sequence[int] = (),
    flags: Sequence[str] = (),
) -> str | None:
    """What the replica of this number (of its machine) binds its engine to; None leaves it to vLLM.

    bind_cores: what the operator says, by number. Without it, whole `cpus` of the `allowed` cores for each, in turn.
    flags: vLLM's; an engine of several processes wants a list for each, which only the operator can say.
    """
    if bind_cores:
        return bind_cores[number % len(bind_cores)]
    each = int(cpus)
    if each < 1 or any((flag.startswith("--") and "parallel" in flag) or flag.startswith(PARALLEL) for flag in flags):
        return None
    groups = max(1, len(allowed) // each)
    first = number % groups * each
    return ",".join(str(core) for core in sorted(allowed)[first : first + each])
