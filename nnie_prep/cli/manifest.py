"""The manifest of `batch`: which models, from which files, with which options, under which names.

    defaults:
      output: prepared/{name}             # STEM; {name}, {stem} and {folder} are filled in
      options: {target: nnie}             # those of `prepare`, by their long names
    models:
      - cfg: darknet/*.cfg                # one model for each, the weights beside it
      - name: face
        prototxt: face/deploy.prototxt
        caffemodel: face/model.caffemodel
        options: {fold-input: transform, skip: [fold_scale]}

Paths are relative to the manifest. Whatever is wrong with it is found before anything runs.
"""

from __future__ import annotations

import argparse
import functools
import glob
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnie_prep.cli.parser import make_parser, parse
from nnie_prep.cli.record import FOR_COMPILER, RECORD, is_recorded
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.outputs.input_files import is_file, read_input
from nnie_prep.outputs.made_by import made_from

_INPUTS = {"cfg": "weights", "prototxt": "caffemodel"}
_KEYS = ("name", *_INPUTS, *_INPUTS.values(), "output", "options")
_DEFAULTS = ("name", "output", "options")
_NOT_HERE = {  # options of `prepare` that are batch's own business
    "help": "see nnie-prep prepare --help",
    "output": "write output beside options, not below",
    "force": "give --force to batch",
    "json": "give --json to batch",
    "quiet": "give -q to batch",
    "verbose": "give -v to batch",
}
_SUFFIXES = (".prototxt", ".caffemodel", ".json", ".report.txt")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Option:
    """An option of `prepare` as it is typed; `value` is "" for a switch."""

    name: str
    value: str = ""
    is_file: bool = False

    def typed(self, folder: Path | None = None) -> str:
        """With a folder: as it is typed where the folder's path is relative to."""
        value = str(folder / self.value) if folder and self.is_file else self.value
        return f"--{self.name}={value}" if self.value else f"--{self.name}"


@dataclass(frozen=True)
class Model:
    """One model of a manifest. `inputs` and `stem` are as written, relative to the manifest's `folder`;
    `pattern` is what found it, "" for one that is named."""

    name: str
    where: str
    folder: Path
    inputs: tuple[str, str]
    stem: str
    options: tuple[Option, ...] = ()
    pattern: str = ""

    def input_paths(self) -> list[Path]:
        return [self.folder / path for path in self.inputs]

    def also_read(self) -> list[Path]:
        """The files that options name, like --input."""
        return [self.folder / option.value for option in self.options if option.is_file]

    def output(self, suffix: str) -> Path:
        return self.folder / (self.stem + suffix)

    def arguments(self, folder: Path | None = None) -> list[str]:
        """What stands behind `prepare`, as the manifest has it, or as it is typed outside its folder."""
        files = [str(folder / path if folder else path) for path in (*self.inputs, self.stem)]
        return [*files[:2], f"--output={files[2]}", *(option.typed(folder) for option in self.options)]


@dataclass(frozen=True)
class _Place:
    """A value of the manifest, as a yaml.Node, which knows its line and keeps texts as they are written."""

    file: Path
    node: Any

    @property
    def where(self) -> str:
        return f"{self.file}:{self.node.start_mark.line + 1}"

    def is_a(self, kind: str) -> bool:
        return bool(self.node.tag == _TAG + kind)

    def text(self, key: str) -> str:
        """A scalar as it is written; UserError for anything else, and for what no file's name can hold."""
        is_text = self.node.id == "scalar" and not self.is_a("bool") and not self.is_a("null")
        if not is_text or not self.node.value or "\0" in self.node.value:
            raise UserError(
                f"{key} is {self.what()}, and a text is wanted", self.where, "quote it if it is one"
            )
        return str(self.node.value)

    def what(self) -> str:
        if self.node.id == "scalar":
            return repr(self.node.value) if self.node.value else "empty"
        return {"mapping": "a mapping", "sequence": "a list"}[self.node.id]

    def items(self, key: str) -> list[_Place]:
        if self.node.id != "sequence":
            raise UserError(
                f"{key} is {self.what()}, and a list is wanted", self.where, "write '- ' before each"
            )
        return [_Place(self.file, node) for node in self.node.value]

    def entries(self, key: str, known: Collection[str]) -> dict[str, _Place]:
        """The entries of a mapping; UserError for a key that is not known or stands twice."""
        if self.node.id != "mapping":
            raise UserError(
                f"{key} is {self.what()}, and a mapping is wanted", self.where, f"keys are {', '.join(known)}"
            )
        found: dict[str, _Place] = {}
        for of_key, of_value in self.node.value:
            at = _Place(self.file, of_key)
            name = at.text("a key")
            if name not in known:
                hint = meant(name, known) or f"known are {', '.join(known)}"
                if key != "options" and name in _prepare_options():
                    hint = "it is an option of prepare: write it below options"
                raise UserError(f"{key} has no key {name!r}", at.where, hint)
            if name in found:
                raise UserError(
                    f"{name} stands twice, before in line {found[name].node.start_mark.line + 1}",
                    at.where,
                    "drop one",
                )
            found[name] = _Place(self.file, of_value)
        return found


def read_manifest(path: Path) -> list[Model]:
    """The models in their order. UserError for whatever is wrong with the manifest itself."""
    root = _Place(path, _compose(path)).entries("the manifest", ("defaults", "models"))
    if "models" not in root:
        raise UserError("there is no list of models", str(path), "write models: and a '- ' for each")
    defaults = root["defaults"].entries("defaults", _DEFAULTS) if "defaults" in root else {}
    _check_options(defaults)
    models = _sources([model for one in root["models"].items("models") for model in _models(one, defaults)])
    if not models:
        raise UserError("the list of models is empty", root["models"].where, "write a '- ' for each")
    _check_names(models)
    _check_files(models)
    for model in models:
        try:
            parse(["prepare", *model.arguments()])
        except UserError as error:
            raise UserError(f"{model.name}: {error.message}", model.where, error.hint) from None
    return models


def _compose(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise UserError("needs PyYAML, which is not installed", "batch", "pip install pyyaml") from None
    data = read_input(path)
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        text = " ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"is not YAML: {text}", where, "correct that") from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise UserError(f"is not YAML: {text}", str(path), "save the file as UTF-8 text") from None
    except RecursionError:
        raise UserError("is nested too deeply", str(path), "a manifest needs four levels") from None
    if node is None:
        raise UserError("is empty", str(path), "write models: and a '- ' for each")
    return node


def _models(place: _Place, defaults: Mapping[str, _Place]) -> Iterator[Model]:
    """The models of one entry: as many as its pattern finds, one if it has none."""
    own = place.entries("a model", _KEYS)
    chosen = [key for key in _INPUTS if key in own]
    if len(chosen) != 1:
        what = " and ".join(chosen) or "neither"
        raise UserError(f"{what} given, of cfg and prototxt", place.where, "each model has one of the two")
    key = chosen[0]
    partner = _INPUTS[key]
    for other in set(_INPUTS.values()) - {partner}:
        if other in own:
            raise UserError(f"{other} given with {key}", own[other].where, f"write {partner}")
    folder = place.file.parent
    first = own[key].text(key)
    found, is_pattern = _matches(first, folder)
    if is_pattern and not found:
        raise UserError(f"no file matches {first}", own[key].where, "paths are relative to the manifest")
    if is_pattern and partner in own:
        hint = "leave it out: each file's weights lie beside it, under its name"
        raise UserError(f"{partner} given with a pattern of {key}", own[partner].where, hint)
    settings = {**defaults, **own}
    options = tuple(_options(defaults, own))
    for path in found or [first]:
        second = own[partner].text(partner) if partner in own else str(Path(path).with_suffix(f".{partner}"))
        fill = {"stem": Path(path).stem, "folder": Path(folder, path).absolute().parent.name}
        name = _filled(settings["name"], "name", fill) if "name" in settings else fill["stem"]
        if "output" in settings:
            stem = _filled(settings["output"], "output", fill | {"name": name})
            stem += name if stem.endswith("/") else ""
        else:
            stem = str(Path(path).with_name(fill["stem"] + ("" if key == "cfg" else "_nnie")))
        yield Model(name, place.where, folder, (path, second), stem, options, first if is_pattern else "")


def _sources(models: list[Model]) -> list[Model]:
    """Without those that a pattern found and batch made: results of this manifest, or of a run before it.

    UserError for a pattern that finds no others.
    """
    made = {_real(model.output(suffix)): model for model in models for suffix in (".prototxt", FOR_COMPILER)}
    found = [model for model in models if not (model.pattern and _is_result(model, made))]
    kept = {(model.where, model.pattern) for model in found}
    for model in models:
        if (model.where, model.pattern) not in kept:
            what = f"{model.pattern} finds nothing but results of batch, like {model.inputs[0]}"
            raise UserError(what, model.where, "name a file of them to have it prepared again")
    return found


def _is_result(model: Model, made: Mapping[str, Model]) -> bool:
    path = model.input_paths()[0]
    if path.name.endswith(FOR_COMPILER):
        maker = made.get(_real(path))
        wrote = maker is not None and any(option.name == "images" for option in maker.options)
        return wrote or is_recorded(path)
    head = made_from(path) if is_file(path) else None
    if head is None or not head.command.endswith(" prepare"):
        return False
    names = [name for name, _ in head.inputs]
    maker = made.get(_real(path), model)
    return (maker is not model and [one.name for one in maker.input_paths()] == names) or is_recorded(path)


def _matches(text: str, folder: Path) -> tuple[list[str], bool]:
    """The files that a pattern finds, sorted; a file of that very name is no pattern."""
    if not glob.has_magic(text) or Path(folder, text).exists():
        return [], False
    found = glob.glob(text, root_dir=folder, recursive=True)  # noqa: PTH207 - Path's takes no absolute one
    return sorted(found), True


def _filled(place: _Place, key: str, fill: Mapping[str, str]) -> str:
    """A name with what stands in braces filled in."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in fill:
            known = ", ".join(f"{{{name}}}" for name in fill)
            raise UserError(f"{key} has {match[0]}, which is not known", place.where, f"known are {known}")
        return fill[match[1]]

    return re.sub(r"\{([^{}]*)\}", value, place.text(key))


@functools.cache
def _prepare_options() -> dict[str, argparse.Action]:
    """The options of `prepare` by their long names."""
    _, commands = make_parser()
    return {
        text.removeprefix("--"): action
        for action in commands["prepare"]._actions
        for text in action.option_strings
        if text.startswith("--")
    }


def _check_options(settings: Mapping[str, _Place]) -> dict[str, _Place]:
    """The entries below options; UserError for one that prepare does not have or batch sets itself."""
    if "options" not in settings:
        return {}
    place = settings["options"]
    found = place.entries("options", _prepare_options())
    for name, value in found.items():
        if name in _NOT_HERE:
            raise UserError(f"{name} cannot be given in a manifest", value.where, _NOT_HERE[name])
    return found


def _options(defaults: Mapping[str, _Place], own: Mapping[str, _Place]) -> Iterator[Option]:
    """A model's options, its own in the place of the defaults; an empty one takes a default away."""
    known = _prepare_options()
    merged = _check_options(defaults) | _check_options(own)
    for name in sorted(merged, key=list(known).index):
        action, place = known[name], merged[name]
        if place.is_a("null"):
            continue
        if action.nargs == 0:
            if not place.is_a("bool"):
                raise UserError(f"{name} is {place.what()}, and true or false is wanted", place.where)
            if place.node.value.lower() in ("true", "yes", "on"):
                yield Option(name)
            continue
        may_be_several = isinstance(action, argparse._AppendAction) and place.node.id == "sequence"
        for one in place.items(name) if may_be_several else [place]:
            yield Option(name, one.text(name), action.type is Path)


def _check_names(models: list[Model]) -> None:
    seen: dict[str, Model] = {}
    for model in models:
        if not model.name.isprintable() or not model.name.strip():
            raise UserError(f"{model.name!r} is no name", model.where, "write a name that can be printed")
        if model.name in seen:
            other = seen[model.name]
            which = f"{other.inputs[0]} and {model.inputs[0]}"
            hint = "give one another name, or all with name: '{folder}-{stem}'"
            raise UserError(f"two models are called {model.name}: {which}", model.where, hint)
        seen[model.name] = model


def _check_files(models: list[Model]) -> None:
    """UserError where two models write the same file, or one writes what another is made from."""
    read = {_real(path): model for model in models for path in [*model.input_paths(), *model.also_read()]}
    written: dict[str, Model] = {}
    for model in models:
        last = model.stem.rpartition("/")[2]
        if last in ("", ".", "..") or Path(last).suffix in _SUFFIXES:
            hint = "output is a name for the files, without suffix, like out/yolov3-tiny"
            raise UserError(f"{model.name} would be written as {model.stem!r}", model.where, hint)
        for suffix in (*_SUFFIXES, RECORD):
            path = _real(model.output(suffix))
            other = written.setdefault(path, model)
            if other is not model:
                hint = "give one another output, or all with output: 'prepared/{name}'"
                what = f"{other.name} and {model.name} would both be written to {model.stem}{suffix}"
                raise UserError(what, model.where, hint)
            if path in read:
                what = (
                    f"{model.name} would be written over {model.stem}{suffix}, an input of {read[path].name}"
                )
                raise UserError(what, model.where, "give it another output")


def _real(path: Path) -> str:
    return str(path.parent.resolve() / path.name)
