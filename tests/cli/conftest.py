"""Fresh folders with the small networks of cli_cases.py; commands run inside them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_cases import write_caffe, write_darknet


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A command run in this process installs its own; pytest keeps its."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds net.cfg, net.weights, small.prototxt and small.caffemodel; the current one."""
    place = tmp_path / "work"
    place.mkdir()
    write_darknet(place)
    write_caffe(place)
    monkeypatch.chdir(place)
    return place
