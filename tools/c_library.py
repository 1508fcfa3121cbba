"""How Linux's C library manages the memory of a process that trains on a CPU.

Imports nothing large, since it has to come before all that does.
"""

import os
import sys

#: Device files of NVIDIA's driver, of the same on WSL, and of AMD's.
GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")

#: See https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html.
SETTINGS = {
    # Blocks of every size stay with the process when they are freed, for its next tensors. By
    # itself the library gives large ones back at once, and the system clears all of their pages
    # again for the next tensor: a tenth of the time of training at 256×256.
    "glibc.malloc.mmap_max": 0,
    "glibc.malloc.trim_threshold": 2**31 - 1,
    # The cache of small blocks would fill up with what aligning a tensor cuts off at its ends. Then
    # a freed tensor's place is a little too small for the next one of its size, and the process
    # grows: by a third at 128×128.
    "glibc.malloc.tcache_count": 0,
}


def apply_to_new_processes() -> None:
    """Give :data:`SETTINGS`, unless the user chose others, to what this process starts."""
    tunables = ":".join(f"{key}={value}" for key, value in SETTINGS.items())
    os.environ.setdefault("GLIBC_TUNABLES", tunables)


def sees_gpu() -> bool:
    """Whether torch, which is not imported yet, is going to find a GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(os.path.exists(device) for device in GPUS)


def restart(script: str) -> None:
    """Start this process over with :data:`SETTINGS`, which are read at the start only.

    Only if it was started for ``script``, and not inside of another program; not where the user
    chose settings, as after the restart; nor on other systems; nor with a GPU, whose tensors the
    library does not manage.
    """
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ or sees_gpu():
        return
    script = os.path.realpath(script)
    if any(os.path.realpath(argument) == script for argument in sys.orig_argv):
        apply_to_new_processes()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
