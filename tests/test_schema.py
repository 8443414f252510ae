"""The schema against the descriptor of the pycaffe that was built, which nobody here wrote."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from nnie_prep import nnie_caffe_pb2
from nnie_prep.engines.caffe_engine import find_caffe_python

# The messages that forks add fields to. Every other message of Caffe is the same here, field for field.
EXTENDED = {
    *("BatchNormParameter", "DetectionOutputParameter", "LayerParameter", "PoolingParameter"),
    "TransformationParameter",
}

Shape = dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def theirs() -> descriptor_pb2.FileDescriptorProto:
    says = "import os; from caffe.proto import caffe_pb2 as p; os.write(1, p.DESCRIPTOR.serialized_pb)"
    python = find_caffe_python(None)
    written = subprocess.run([python, "-c", says], stdout=subprocess.PIPE, check=True).stdout
    return descriptor_pb2.FileDescriptorProto.FromString(written)


@pytest.fixture(scope="module")
def ours() -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto.FromString(nnie_caffe_pb2.DESCRIPTOR.serialized_pb)


def default(field: descriptor_pb2.FieldDescriptorProto) -> str | float | None:
    """The value, as .999 and 0.999 are one default; None where there is none."""
    if not field.HasField("default_value"):
        return None
    if field.type == field.TYPE_FLOAT:
        return float(np.float32(field.default_value))
    return field.default_value


def shapes(file: descriptor_pb2.FileDescriptorProto) -> dict[str, Shape]:
    """Every message and enum by its name in the package: field -> its facts, value -> its number."""
    package = f".{file.package}."

    def walk(scope: str, messages: Any, enums: Any) -> Iterator[tuple[str, Shape]]:
        for enum in enums:
            yield scope + enum.name, {value.name: (value.number,) for value in enum.value}
        for message in messages:
            fields = {}
            for field in message.field:
                assert not field.type_name or field.type_name.startswith(package)
                fields[field.name] = (
                    field.number,
                    field.label,
                    field.type,
                    field.type_name.removeprefix(package),
                    default(field),
                    field.options.SerializeToString(),  # packed and deprecated
                )
            yield scope + message.name, fields
            yield from walk(f"{scope}{message.name}.", message.nested_type, message.enum_type)

    return dict(walk("", file.message_type, file.enum_type))


@pytest.mark.caffe
def test_everything_that_caffe_has_is_the_same_here(
    theirs: descriptor_pb2.FileDescriptorProto, ours: descriptor_pb2.FileDescriptorProto
) -> None:
    caffe, here = shapes(theirs), shapes(ours)
    assert {"NetParameter", "LayerParameter", "V1LayerParameter", "V0LayerParameter", "Phase"} <= caffe.keys()
    differences = []
    for name, expected in caffe.items():
        found = here.get(name)
        if found is None:
            differences.append(f"{name} is missing")
            continue
        for member in expected.keys() | found.keys():
            if member not in expected and name in EXTENDED:
                continue
            if expected.get(member) != found.get(member):
                differences.append(f"{name}.{member}: Caffe {expected.get(member)}, here {found.get(member)}")
    assert not differences, "\n".join(differences)


@pytest.mark.caffe
def test_both_schemas_live_in_one_process(theirs: descriptor_pb2.FileDescriptorProto) -> None:
    """pycaffe's module registers caffe.proto in the default pool, where ours is already."""
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(theirs.SerializeToString())
    assert pool.FindMessageTypeByName("caffe.LayerParameter").fields_by_name.get("custom_param") is None
    assert pool.FindMessageTypeByName("nnie_prep.caffe.LayerParameter").fields_by_name["custom_param"]
