"""`python -m nnie_prep` and `nnie-prep`."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress


def main() -> int:
    """Runs the command line of this process; returns its exit code.

    What is imported is no garbage: looking for some among it, and once more when the process ends, would be
    a tenth of the time that a short command takes.
    """
    gc.disable()
    if "--no-verify" in sys.argv:  # no matrices are multiplied, and the threads for that wait busily
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from nnie_prep import cli

    code = cli.main()
    gc.freeze()
    return code


def run() -> None:
    """Runs it and ends the process, without taking apart first what is imported: that takes 4 ms.

    What the command wrote is on the disk by then, and what it said has been flushed.
    """
    code = main()
    with suppress(OSError):  # nobody is left to be told
        if sys.stderr is not None:
            sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
