"""Weights that Caffe itself reads and writes, in the place of caffe_io: --weights-engine, --save-with.

Reading: caffe.Net.copy_from in a child process, for what only Caffe reads, HDF5 above all. The values are
those of caffe_io, bit for bit. Caffe gets the net as it stands at inference, since it would open the
databases of the data layers.

Writing: Net.save. The blobs are the same bits, which is checked. What else the file says is what Caffe makes
of the net: with the Split layers that it inserts where a blob has several readers, an Input layer for the
inputs of a prototxt's head, `phase: TEST` in each layer, and without what only training needs. None of
that is read from a caffemodel, neither by Caffe nor here.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnie_prep import passes
from nnie_prep.blob_map import BlobMap
from nnie_prep.caffe_io import format_prototxt, read_caffemodel
from nnie_prep.caffe_io.caffemodel import StoredLayer, is_hdf5
from nnie_prep.engines import caffe_engine
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.training_layers import DATA

_NO_HDF5 = "if that Caffe was built without HDF5, run `make caffe`, or name another with --caffe-python"


def read_weights(python: str, net: Net, caffemodel: Path) -> list[StoredLayer]:
    """The layers of the file, as the Caffe of that Python loads them into the net.

    Of a file that is not HDF5, the layers that Caffe was not asked for follow, so that weights which
    the net has no use for are reported as always. HDF5 files keep theirs to themselves.

    Raises UserError where Caffe stops, and where a data layer does not say what shape it has.
    """
    hdf5 = is_hdf5(caffemodel)
    reasons = []
    for given in _as_asked(net):
        try:
            stored = _load(python, given, caffemodel, hdf5)
        except UserError as error:
            reasons.append(error)
            continue
        if not hdf5:
            asked = {layer.name for layer in given.layers}
            with suppress(UserError):  # Caffe reads what this may not
                stored += [layer for layer in read_caffemodel(caffemodel) if layer.name not in asked]
        return stored
    raise reasons[0]


def save_weights(python: str, net: Net, file: BinaryIO) -> None:
    """Writes what Net.save of the Caffe of that Python makes of the net.

    Raises UserError where Caffe stops, and where the blobs would not be the net's, bit for bit.
    """
    given = _as_asked(net)[0]
    with caffe_engine.temporary_folder() as folder:
        pair = caffe_engine.write_pair(given, folder)
        saved = caffe_engine.save_weights(python, *pair, folder, net.source)
        _check_same(net, read_caffemodel(saved))
        with saved.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)


def _load(python: str, net: Net, caffemodel: Path, hdf5: bool) -> list[StoredLayer]:
    with caffe_engine.temporary_folder() as folder:
        prototxt = folder / "net.prototxt"
        prototxt.write_text(format_prototxt(net), encoding="utf-8")
        # Any file name is Caffe's this way, and older ones tell HDF5 by the suffix.
        link = folder / f"net.caffemodel{'.h5' * hdf5}"
        link.symlink_to(caffemodel.resolve())
        stored = caffe_engine.read_weights(python, prototxt, link, str(caffemodel), _NO_HDF5 * hdf5)
    if hdf5 and not stored:  # without HDF5, some take such a file for a caffemodel that has no layers
        raise UserError(
            f"the Caffe of {python} found no weights in this HDF5 file", str(caffemodel), _NO_HDF5
        )
    return stored


def _as_asked(net: Net) -> list[Net]:
    """The net at inference; where nothing says how many channels its pictures have, with 3 and with 1.

    The weights would say it, and are not known yet: Caffe refuses those that do not fit.
    """
    found, reasons = [], []
    for channels in ("", "force_color", "force_gray"):
        twin = net.copy()
        for layer in twin.layers:
            if channels and layer.type in DATA:
                setattr(layer.proto.transform_param, channels, True)
        notes = passes.run(twin, [drop_training], BlobMap(twin.blob_names()))["drop_training"]
        if any(layer.type in DATA and layer.type != "DummyData" for layer in twin.layers):
            reasons += [f"{note.layer}: {note.text}" for note in notes if not note.changed]
            continue
        found.append(twin)
        if not channels:
            break
    if not found:
        raise UserError(f"cannot be given to Caffe as it is: {reasons[-1]}", net.source)
    return found


def _check_same(net: Net, saved: list[StoredLayer]) -> None:
    """Raises UserError where a blob of the net is not in the file as it is in the net."""
    for layer in net.layers:
        if not layer.blobs:
            continue
        stored = next((one.blobs for one in saved if one.name == layer.name), [])
        same = len(stored) == len(layer.blobs) and all(
            theirs.values.size == ours.size
            and np.array_equal(
                np.asarray(theirs.values).view(np.uint32), np.ravel(np.asarray(ours)).view(np.uint32)
            )
            for theirs, ours in zip(stored, layer.blobs, strict=True)
        )
        if not same:
            raise UserError(
                f"Caffe's Net.save would write other weights for layer {layer.name!r}",
                layer.origin,
                "leave out --save-with pycaffe",
            )
