"""Detection heads: [yolo], [Gaussian_yolo], [region], [detection], [contrastive].

A head adds no layers. The net ends at the blob that it reads; what CPU code needs to decode that blob
is described by a dict of JSON values (heads.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnie_prep.darknet import heads
from nnie_prep.darknet.builder import Builder, Output
from nnie_prep.darknet.cfg import Section

Describe = Callable[[Builder, Section, Output], dict[str, Any]]


def emit_head(build: Builder, section: Section) -> Output:
    """Describes the head; its type is the section's."""
    describe: Describe = heads.DESCRIPTIONS[section.type]
    source = build.input()
    build.add_head(source, section.type, **describe(build, section, source))
    return Output(source.shape, none=f"a {section.type} head: decoded on the CPU")
