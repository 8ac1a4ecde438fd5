"""Environment variables that Paddle, its MKL and tokenizers read when they are loaded.

Nothing here happens by importing: a command or a script calls it first, a library never does. What
the user has set already stands.
"""

import os


def prepare_process() -> None:
    """What every process wants that may load Paddle or tokenise."""
    # Without it, tokenizers warns when a process that has tokenised starts another one.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Paddle's C++ side reports its hardware on standard error, whatever it is told later.
    os.environ.setdefault("GLOG_minloglevel", "2")
    # On AMD processors Paddle's MKL takes a slow path unless told not to.
    if _is_amd():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def prepare_training(threads: int | None = None) -> None:
    """Paddle's eager layers compute with one thread unless told otherwise.

    Its own flag does not always reach the MKL that multiplies its matrices, which has another.
    ``threads`` are by default what OMP_NUM_THREADS says, or this process's share of the cores.
    """
    prepare_process()
    said = os.environ.get("OMP_NUM_THREADS", "")
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    share = max(1, len(os.sched_getaffinity(0)) // processes)
    count = threads or (int(said) if said.isdecimal() and int(said) else share)
    for name in ("FLAGS_paddle_num_threads", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(count))


def _is_amd() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return any(line.startswith("vendor_id") and "AMD" in line for line in lines)
    except OSError:
        return False
