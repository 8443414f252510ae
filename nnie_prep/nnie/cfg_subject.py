"""The .cfg that is checked, with its net, and what rules ask about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnie_prep.net import Net
from nnie_prep.nnie.calibration import Listed, read_list
from nnie_prep.nnie.finding import Finding
from nnie_prep.nnie.limits import Limits
from nnie_prep.nnie.mapper_cfg import FEATURE_MAP, ImageGroup, MapperCfg
from nnie_prep.nnie.preprocessing import Preprocessing
from nnie_prep.outputs.input_files import is_file
from nnie_prep.shapes import Shape, net_input_shapes


@dataclass(eq=False)
class CfgSubject:
    """A .cfg, the net that it names (None where there is no such file), and what is known of its pictures.

    `wanted` holds what each input was trained with, None where nobody says; `net_findings` what `check`
    finds in the net; `pair` the net's prototxt and caffemodel, where the user named them.
    """

    cfg: MapperCfg
    limits: Limits
    net: Net | None = None
    wanted: Mapping[str, Preprocessing | None] = field(default_factory=dict)
    net_findings: Sequence[Finding] = ()
    pair: tuple[Path, Path] | None = None

    def line(self, key: str, group: ImageGroup | None = None) -> int:
        return (group.lines if group else self.cfg.lines).get(key, 0)

    def inputs(self) -> list[tuple[str, Shape, ImageGroup]]:
        """Each input of the net with its shape and its group, as far as there are both."""
        if self.net is None:
            return []
        shapes = net_input_shapes(self.net)
        pairs = zip(self.net.inputs(), self.cfg.groups, strict=False)
        return [(name, shapes[name], group) for name, group in pairs if name in shapes]

    def pictures(self) -> list[tuple[str, Shape, ImageGroup]]:
        """Those that are fed with pictures."""
        return [one for one in self.inputs() if one[2].image_type != FEATURE_MAP and len(one[1]) == 4]

    def listed(self, group: ImageGroup) -> list[Listed]:
        """The pictures of a list, none where it cannot be read."""
        return read_list(self.cfg, group) if is_file(self.cfg.path(group.image_list)) else []
