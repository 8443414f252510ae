"""The report of `batch` as JUnit's XML, in the form that Jenkins, GitLab and the others read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from nnie_prep.cli.children import Result
from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import read_input

_NAME = "nnie_prep batch"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(manifest: str, results: Sequence[Result], seconds: float) -> bytes:
    """A test case for each model: a failure where the proof said no, an error where there was none."""
    root = Element("testsuites", name=_NAME)
    suite = SubElement(root, "testsuite", name=_clean(manifest))
    for result in results:
        _add_case(suite, manifest, result)
    for element in (root, suite):
        element.set("tests", str(len(results)))
        for kind in ("failure", "error"):
            element.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
        element.set("time", f"{seconds:.3f}")
    suite.set("skipped", "0")
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, "unicode")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode() + b"\n"


def is_ours(path: Path) -> bool:
    """Whether a file is such a report, which a pipeline writes anew each time."""
    try:
        root = ElementTree.fromstring(read_input(path))
    except (UserError, ElementTree.ParseError):
        return False
    return root.tag == "testsuites" and root.get("name") == _NAME


def _add_case(suite: Element, manifest: str, result: Result) -> None:
    name, seconds = _clean(result.model.name), f"{result.seconds:.3f}"
    case = SubElement(suite, "testcase", classname=_clean(Path(manifest).stem), name=name, time=seconds)
    if result.state == "failed":
        kind = "failure" if result.proof else "error"
        found = SubElement(case, kind, message=_clean(result.error), type=f"exit code {result.code}")
        found.text = _clean(result.said or result.error)
    answer = result.proof["answer"] if result.proof else "not verified"
    SubElement(case, "system-out").text = _clean(f"{result.state}: {answer}")


def _clean(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)
