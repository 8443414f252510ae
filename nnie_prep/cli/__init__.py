"""The command line: arguments in, exit code out. 0 done, 1 the answer is no, 2 bad usage or input.

parser.py    every command's arguments, without a heavy import, so that --help is instant
change.py    darknet2caffe, merge-bn, add-bias, strip, prepare: read, change, prove, write
compare.py   verify
forward.py   run
show.py      show, passes
report.py    what people read: tables, verdicts, progress
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from nnie_prep.cli.parser import parse
from nnie_prep.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. A user's mistake is one line on stderr."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        module = importlib.import_module(f"nnie_prep.cli.{options.module}")
        code: int = getattr(module, options.function)(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"nnie_prep: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output went away, `| head` say; nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("nnie_prep: interrupted, nothing was written", file=sys.stderr)
        return 130
    return code


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds the stack, so that temporary files are removed."""
    raise KeyboardInterrupt
