"""The build's own steps; that it builds is shown by every test that runs Caffe."""

import importlib
import io
import random
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docker/caffe"))
    yield importlib.import_module("build")
    for name in ("build", "patch_caffe", "fetch_source"):
        sys.modules.pop(name, None)


@pytest.fixture
def checkout(build, tmp_path):
    """A tree with nothing in it but the texts that are replaced."""
    tree = tmp_path / "checkout"
    texts = {}
    for path, old, _ in sys.modules["patch_caffe"].REPLACEMENTS:
        texts[path] = texts.get(path, "before\n") + old + "after\n"
    texts["LICENSE"] = "BSD\n"
    for folder in ("include/caffe/layers", "src/caffe/layers"):
        (tree / folder).mkdir(parents=True)
    for path, text in texts.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    return tree


def pack(checkout, tarball, prefix):
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(checkout, prefix or ".")
    return tarball


@pytest.mark.parametrize("kind", ["checkout", "flat tarball", "tarball with a folder"])
def test_lay_out_tree(build, checkout, tmp_path, kind):
    (checkout / "include/caffe/layers/relu_layer.hpp").write_text("theirs\n")
    (checkout / "src/caffe/layers/relu_layer.cpp").write_text("theirs\n")
    source = checkout
    if kind != "checkout":
        source = pack(checkout, tmp_path / "caffe.tar.gz", "caffe-99bd997" if "folder" in kind else "")
    tree = tmp_path / "tree"
    tree.mkdir()
    build.lay_out_tree(source, tree, "1.0.0+k1")
    net = (tree / "src/caffe/net.cpp").read_text()
    assert net.startswith("before\n#ifdef USE_HDF5\n")
    assert net.endswith("CopyTrainedLayersFromBinaryProto(trained_filename);\nafter\n")
    assert "upsample_param = 100003" in (tree / "src/caffe/proto/caffe.proto").read_text()
    assert "skimage" not in (tree / "python/caffe/io.py").read_text().split("after")[0]
    assert (tree / "src/caffe/layers/upsample_layer.cpp").exists()
    assert (tree / "src/caffe/layers/relu_layer.cpp").read_text() == "theirs\n"
    assert 'version = "1.0.0+k1"' in (tree / "pyproject.toml").read_text()
    assert (
        "CopyTrainedLayersFromHDF5(trained_filename);\n  } else {"
        in (checkout / "src/caffe/net.cpp").read_text()
    ), "the user's checkout was changed"


@pytest.mark.parametrize("copies", [0, 2])
def test_another_commit_is_refused(build, checkout, tmp_path, capsys, copies):
    file = checkout / "src/caffe/util/io.cpp"
    file.write_text(file.read_text() * copies)
    (tmp_path / "tree").mkdir()
    with pytest.raises(SystemExit) as end:
        build.lay_out_tree(checkout, tmp_path / "tree", "1.0.0+k1")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{checkout}: src/caffe/util/io.cpp: 'SetTotalBytesLimit(" in said
    assert f"there {copies} times instead of once" in said


def test_a_tarball_of_something_else(build, tmp_path, capsys):
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("setup.py"), io.BytesIO())
    with pytest.raises(SystemExit) as end:
        build.lay_out_tree(tmp_path / "other.tar", tmp_path, "1.0.0+k1")
    assert end.value.code == 2
    assert "holds no src/caffe/net.cpp" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0, 30, 900], ids=["empty", "cut in its head", "cut short"])
def test_a_tarball_that_is_not_whole(build, checkout, tmp_path, capsys, kept):
    for folder in range(9):
        (checkout / f"src/caffe/{folder}.bin").write_bytes(random.Random(folder).randbytes(999))
    tarball = pack(checkout, tmp_path / "caffe.tar.gz", "")
    tarball.write_bytes(tarball.read_bytes()[:kept])
    with pytest.raises(SystemExit) as end:
        build.lay_out_tree(tarball, tmp_path, "1.0.0+k1")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"build.py: {tarball} cannot be unpacked (")
    assert said.count("\n") == 1


def test_the_key_names_what_the_wheel_is_made_from(build, checkout, monkeypatch, tmp_path):
    target = {"tag": "cp311", "version": "3.11", "machine": "x86_64"}
    source = build.hash_source(checkout)
    keys = [
        build.content_key(source, target, False),
        build.content_key(source, target, True),
        build.content_key(source, {**target, "tag": "cp312"}, False),
        build.content_key(source, {**target, "machine": "aarch64"}, False),
    ]
    (checkout / "src/caffe/net.cpp").write_text("changed\n")
    keys.append(build.content_key(build.hash_source(checkout), target, False))
    ours = tmp_path / "ours"
    (ours / "layers").mkdir(parents=True)
    for file in build.HERE.glob("layers/*"):
        (ours / "layers" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(build, "HERE", ours)
    keys.append(build.content_key(source, target, False))
    (ours / "layers/upsample_layer.cpp").write_text("changed\n")
    keys.append(build.content_key(source, target, False))
    assert len(set(keys)) == len(keys)
    assert keys[-1] == build.content_key(source, target, False)


def test_a_wheel_in_the_cache_is_not_built_again(build, checkout, tmp_path):
    target = build.describe_python(sys.executable)
    folder = tmp_path / "cache/caffe" / build.content_key(build.hash_source(checkout), target, False)
    folder.mkdir(parents=True)
    (folder / "nnie_prep_caffe-1.whl").touch()
    found = build.find_or_build(sys.executable, checkout, tmp_path / "cache", False)
    assert found == folder / "nnie_prep_caffe-1.whl"


@pytest.mark.parametrize(
    ("variable", "options", "hdf5"),
    [
        (None, [], True),
        ("1", [], True),
        ("0", [], False),
        (None, ["--no-hdf5"], False),
        ("0", ["--hdf5"], True),
    ],
)
def test_hdf5_may_be_left_out(build, monkeypatch, capsys, variable, options, hdf5):
    monkeypatch.delenv("CAFFE_HDF5", raising=False)
    if variable is not None:
        monkeypatch.setenv("CAFFE_HDF5", variable)
    monkeypatch.setattr(sys, "argv", ["build.py", *options])
    monkeypatch.setattr(build, "find_or_build", lambda python, source, cache, hdf5: f"hdf5: {hdf5}")
    build.main()
    assert capsys.readouterr().out == f"hdf5: {hdf5}\n"
