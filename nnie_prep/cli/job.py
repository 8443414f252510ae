"""A command's work on a net: its files are made sure of, it is done, and only then its results appear."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nnie_prep.cli.judges import check_judge
from nnie_prep.cli.placing import folder_of, writing
from nnie_prep.cli.report import Progress
from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs

if TYPE_CHECKING:
    from nnie_prep.passes import Pass


class Configured(NamedTuple):
    """What --images had written for the compiler; `report` prints it."""

    files: list[Path]
    warnings: list[str]
    report: Callable[[], None]


@dataclass
class Job:
    """One command's work: what to read, which passes to run, where the result goes."""

    options: Namespace
    inputs: list[Path]
    passes: Callable[[], Sequence[Pass]]  # what imports them, while the inputs are being hashed
    prototxt: Path
    caffemodel: Path
    is_darknet: bool = False
    with_report: bool = False  # STEM.report.txt, for who hands the pair on
    configure: Callable[[], Configured] | None = None  # once the pair is written

    @property
    def json(self) -> Path:
        return self.prototxt.with_suffix(".json")

    @property
    def report(self) -> Path:
        return self.prototxt.with_suffix(".report.txt")

    def targets(self) -> list[Path]:
        """In the order in which they appear, the prototxt last."""
        return [*self.written()[1:], self.prototxt]

    def written(self) -> list[Path]:
        """In the order in which they are told of."""
        return [self.prototxt, self.caffemodel, self.json, *([self.report] if self.with_report else [])]


def change(job: Job) -> int:
    """Reads, changes, writes to temporary files, proves what was written, and commits."""
    options = job.options
    check_judge(options)
    if options.skip:
        _check_names(options.skip)
    also_read = [options.input] if options.input else []
    outputs = Outputs(job.targets(), job.inputs, also_read, force=options.force)
    with (
        folder_of(options.output),
        writing(outputs, lambda: _read(job)) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        progress("reading")
        from nnie_prep.cli.job_work import work  # imports a lot, while the inputs are being hashed

        outcome = work(job, out, progress)
        if outcome.passed:
            out.commit()
    from nnie_prep.cli.job_report import report

    if outcome.passed and job.configure:
        try:
            outcome.configured = job.configure()
        except (UserError, SystemExit):  # the pair is there all the same
            report(job, outcome)
            raise
    report(job, outcome)
    return 0 if outcome.passed else 1


def _read(job: Job) -> None:
    from nnie_prep.cli.job_work import read

    read(job)


def _check_names(skip: Sequence[str]) -> None:
    """Raises UserError where one is no pass's name."""
    from nnie_prep.passes import names_of
    from nnie_prep.passes.pipelines import ALL_PASSES

    known = names_of(ALL_PASSES)
    if unknown := [name for name in skip if name not in known]:
        raise UserError(f"no pass is called {', '.join(unknown)}", hint=f"choose from {', '.join(known)}")


def darknet_options(options: Namespace) -> list[str]:
    """What the user asked for that only a Darknet network can have, as it is typed."""
    defaults = {"flavor": "alexeyab", "bn_form": "standard", "against": "numpy", "darknet_lib": None}
    given = {name: getattr(options, name, default) for name, default in defaults.items()}
    odd = [f"--{name.replace('_', '-')} {given[name]}" for name in defaults if given[name] != defaults[name]]
    return odd + [f"--approximate {name}" for name in sorted(set(getattr(options, "approximate", [])))]
