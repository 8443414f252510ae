"""The command line: arguments in, exit code out. 0 done, 1 the answer is no, 2 bad usage or input.

parser.py         the commands, without a heavy import, so that --help is instant
parser_batch.py   those for many models, and for the shell
parser_nnie.py    those about NNIE's compiler
arguments.py      what several commands have in common
change.py         darknet2caffe, merge-bn, add-bias, strip, prepare: what each is to do
job.py            how such a command is begun and ended: its files
job_work.py       what it does between: read, change, write, prove
job_inputs.py     what it writes down of the inputs
job_proof.py      how it is proven
job_report.py     what it tells
handover.py       what STEM.report.txt tells whoever compiles the pair
judges.py         what the user asked of a proof
requests.py       what is asked of single layers and blobs
placing.py        where -o puts files, and how they are called
weights.py        which engine reads and writes weights
fold.py           fold-darknet
check.py          check
findings.py       what check and mapper-cfg find, as they tell it
mapper.py         mapper-cfg
mapper_inputs.py  what it is asked of inputs
compare.py        verify
forward.py        run
detect.py         detect
detect_kinds.py   what kinds of detectors are fed with, and what finds their boxes
inspect.py        inspect
show.py           show, passes
diff.py           diff
edit.py           edit
quantize.py       quantize-sim, compare-dump
batch.py          batch: many models, and the report on them
manifest.py       which models
children.py       each prepared in a process of its own
record.py         what is kept of each, so that nothing is done twice
junit.py          the report as JUnit's XML
completion.py     completion
report.py         what people read: tables, verdicts, progress
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

from nnie_prep.cli.parser import parse
from nnie_prep.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. A user's mistake is one line on stderr."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, _terminate)
    output = io.StringIO()
    options = None
    try:
        options = parse(arguments)
        with contextlib.redirect_stdout(output):
            code = _run(options.module, options.function, options)
        _print(output.getvalue())
    except UserError as error:
        with contextlib.suppress(UserError):
            _print(output.getvalue())  # what was done before it
        print(f"nnie_prep: error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        hint = "; --no-verify needs much less" if hasattr(options, "no_verify") else ""
        print(f"nnie_prep: error: not enough memory: {error or 'none is left'}{hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        # It may have been while the report was printed, or the last name given to a file.
        print("nnie_prep: interrupted, no file is half written", file=sys.stderr)
        return 128 + int(*error.args or (signal.SIGINT,))
    return code


def _run(module: str, function: str, options: object) -> int:
    """Imports and calls what runs the command."""
    run = getattr(importlib.import_module(f"nnie_prep.cli.{module}"), function)
    if not gc.isenabled():  # at the program's start: what is imported is no garbage
        gc.freeze()
        gc.set_threshold(100_000)
        gc.enable()
    with warnings.catch_warnings():
        # NumPy's, of overflow and the like: what is not finite fails the proof, which names the blob.
        warnings.simplefilter("ignore", RuntimeWarning)
        code: int = run(options)
    return code


def _print(text: str) -> None:
    """Prints what a command has to say, when it is done: no reader can make it fail halfway."""
    if sys.stdout is None:  # closed by `>&-`
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # after `| head` nobody is left to be told
            raise UserError(f"cannot be written to: {error.strerror}", "standard output") from None


def _terminate(number: int, frame: FrameType | None) -> None:
    """Unwinds the stack, so that temporary files are removed."""
    raise KeyboardInterrupt(number)
