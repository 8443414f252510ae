"""`mapper-cfg`: what is written for a pair, --check of it, and quantize-sim on its pictures."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_cases import HEAD, listing, refuses, run

from nnie_prep.caffe_io import read_net
from nnie_prep.nnie.calibration import cfg_feeds
from nnie_prep.nnie.mapper_cfg import GROUP_KEYS, KEYS, read_cfg
from nnie_prep.nnie_caffe_pb2 import BlobProto, LayerParameter, NetParameter
from nnie_prep.quantization import Simulation, snr

PHOTO = Path(__file__).parent.parent / "data" / "photo.jpg"
SMALL = ("mapper-cfg", "small.prototxt", "small.caffemodel")
PAIR = ("mapper-cfg", "net.prototxt", "net.caffemodel")


# A convolution and a detection head, without what `check` has to say something of.
CFG = (
    """\
[net]
width=24
height=16
channels=3

[convolutional]
filters=16
size=3
stride=1
pad=1
activation=leaky

"""
    + HEAD
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `job` copies."""
    place = tmp_path_factory.mktemp("prepared")
    floats = np.random.default_rng(0).normal(0, 0.3, 16 + 16 * 27 + 21 + 21 * 16).astype("<f4")
    (place / "net.cfg").write_text(CFG)
    (place / "net.weights").write_bytes(struct.pack("<iiiQ", 0, 2, 0, 0) + floats.tobytes())
    assert run("prepare", place / "net.cfg", place / "net.weights", "-q").code == 0
    pictures = place / "pictures"
    pictures.mkdir()
    photo = cv2.imread(str(PHOTO))
    for number in range(24):
        crop = photo[number * 8 : number * 8 + 150, number * 15 : number * 15 + 200]
        cv2.imwrite(str(pictures / f"{number:02}.png"), crop)
    return place


@pytest.fixture
def job(folder: Path, prepared: Path) -> Path:
    """A prepared Darknet network, net.prototxt and net.caffemodel; and a folder of 24 pictures."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    return folder


def made(*arguments: object) -> str:
    done = run(*arguments)
    assert done.code == 0, done
    return done.out


DARKNET = """\
[prototxt_file] ./net.prototxt
[caffemodel_file] ./net.caffemodel
[batch_num] 1
[net_type] 0
[sparse_rate] 0
[compile_mode] 0
[is_simulation] 0
[log_level] 0
[instruction_name] net_inst
[RGB_order] RGB
[data_scale] 0.003921568627
[internal_stride] 16
[image_list] ./net_images.txt
[image_type] 1
[mean_file] null
[norm_type] 3
"""


def test_a_darknet_network(job: Path) -> None:
    out = made(*PAIR, "--images", "pictures")
    assert Path("net_mapper.cfg").read_text() == DARKNET
    names = Path("net_images.txt").read_text().split()
    assert names == [f"./pictures/{place:02}.png" for place in range(24)]
    assert "data: RGB, times 0.003921568627 (norm_type 3; net.json)\n" in out
    assert "start the compiler in .: the paths in the .cfg begin there\n" in out
    done = run("mapper-cfg", "--check", "net_mapper.cfg", "--chip", "hi3516dv300")
    assert done == (0, "ACCEPTED for hi3516dv300: 0 errors, 0 warnings, 0 hints\n", "")


def test_the_same_again_needs_no_force(job: Path) -> None:
    made(*PAIR, "--images", "pictures", "--resize", "--count", "20")
    first = listing(job)
    made(*PAIR, "--images", "pictures", "--resize", "--count", "20")
    assert listing(job) == first
    assert refuses(job, *PAIR, "--bits", "16", "--stride", "32", "--log-level", "3") == (
        "net_mapper.cfg: exists and was written for other input or with other options, or edited since "
        "(compile_mode 0, now 1, log_level 0, now 3, 1 more); "
        "--force replaces it, another output (-o) spares it"
    )
    said = refuses(job, *PAIR, "--images", "pictures", "--resize", "--count", "20", "--seed", "1")
    assert "net_images.txt: exists and was written for other input or with other options" in said
    copy = Path("net_images/01_00.bmp")
    kept = copy.read_bytes()
    copy.write_bytes(kept[:-3] + b"abc")
    said = refuses(job, *PAIR, "--images", "pictures", "--resize", "--count", "20")
    assert "01_00.bmp: exists and was written for other input or with other options" in said
    copy.write_bytes(kept)
    Path("net_mapper.cfg").write_text("# mine\n" + Path("net_mapper.cfg").read_text())
    again = (*PAIR, "--images", "pictures", "--resize", "--count", "20")
    assert "net_mapper.cfg: exists and is not as nnie_prep writes it; --force" in refuses(job, *again)
    made(*PAIR, "--images", "pictures", "--resize", "--count", "20", "--seed", "1", "--force")
    assert listing(job) != first


def test_darknets_own_cfg_is_never_replaced(job: Path) -> None:
    assert "is no .cfg of the compiler's" in refuses(job, *PAIR, "-o", "net.cfg", "--force")


def test_copies_of_the_nets_size(job: Path) -> None:
    made(*PAIR, "--images", "pictures", "--resize", "--count", "20")
    names = Path("net_images.txt").read_text().split()
    assert len(names) == 20 and names[0].startswith("./net_images/01_")
    chosen = [Path("pictures", Path(name).stem[3:] + ".png") for name in names]
    for name, source in zip(names, chosen, strict=True):
        copy = cv2.imread(name)
        difference = np.abs(copy.astype(int) - cv2.resize(cv2.imread(str(source)), (24, 16)))
        assert copy.shape == (16, 24, 3) and difference.max() <= 1  # as tests/nnie/test_calibration.py
    assert run("mapper-cfg", "--check", "net_mapper.cfg").code == 0


def test_nothing_is_left_where_it_fails(job: Path) -> None:
    Path("pictures/07.png").write_bytes(b"no picture")
    assert "07.png: is no picture" in refuses(job, *PAIR, "--images", "pictures", "--resize")
    said = refuses(job, *PAIR, "--images", "pictures")
    assert "pictures/07.png: is no picture that the compiler reads: it begins with b'no picture'" in said
    Path("net_images.txt").write_text("mine\n")
    Path("pictures/07.png").unlink()
    refuses(job, *PAIR, "--images", "pictures", "--resize")


def test_a_folded_input_is_fed_raw(job: Path) -> None:
    made("merge-bn", "net.prototxt", "net.caffemodel", "--fold-input", "darknet,feed=bgr", "-o", "raw", "-q")
    made("mapper-cfg", "raw.prototxt", "raw.caffemodel", "--images", "pictures")
    cfg = read_cfg(Path("raw_mapper.cfg"))
    assert (cfg.RGB_order, cfg.groups[0].norm_type, cfg.groups[0].scale) == ("BGR", 0, 1)
    assert run("mapper-cfg", "--check", "raw_mapper.cfg").code == 0
    Path("raw_mapper.cfg").write_text(
        Path("raw_mapper.cfg").read_text().replace("norm_type] 0", "norm_type] 3")
    )
    assert "input data is normalised by --fold-input" in run("mapper-cfg", "--check", "raw_mapper.cfg").out
    said = refuses(job, "mapper-cfg", "raw.prototxt", "raw.caffemodel", "--scale", "0.5", "-o", "x")
    assert "input data is normalised by the net itself (--fold-input); leave them out" in said


@pytest.mark.parametrize(
    ("options", "norm_type", "scale", "mean"),
    [
        ((), 3, 0.00390625, None),  # the transform_param of the layer for training
        (("--mean", "104,117,123"), 5, 0.00390625, "104.0\n117.0\n123.0\n"),
        (("--mean", "127.5", "--scale", "1"), 2, 1.0, "127.5\n127.5\n127.5\n"),
        (("--mean", "my.txt", "--scale", "1"), 2, 1.0, "1.5\n2.5\n3.5\n"),
        (("--mean", "m.binaryproto", "--scale", "1"), 1, 1.0, None),
        (("--mean", "m.binaryproto"), 4, 0.00390625, None),
        (("--scale", "1"), 0, 1.0, None),
        (("--transform", "other.prototxt"), 5, 0.017, "1.0\n2.0\n3.0\n"),
    ],
)  # fmt: skip
def test_mean_and_scale(
    folder: Path, options: tuple[str, ...], norm_type: int, scale: float, mean: str | None
) -> None:
    Path("my.txt").write_text("1.5\n2.5\n3.5\n")
    blob = BlobProto(num=1, channels=3, height=11, width=13, data=[100.0] * 429)
    Path("m.binaryproto").write_bytes(blob.SerializeToString())
    told = "transform_param { scale: 0.017 mean_value: 1 mean_value: 2 mean_value: 3 crop_size: 13 }"
    text = Path("small.prototxt").read_text()
    assert "transform_param { scale: 0.00390625 crop_size: 13 }" in text
    Path("other.prototxt").write_text(
        text.replace("transform_param { scale: 0.00390625 crop_size: 13 }", told)
    )
    done = run(*SMALL, *options)
    assert done.code == 0 and "no list is written for input data" in done.err
    group = read_cfg(Path("small_mapper.cfg")).groups[0]
    assert (group.norm_type, group.scale) == (norm_type, pytest.approx(scale))
    if mean is not None:
        assert group.mean_file == "./small_mean.txt" and Path("small_mean.txt").read_text() == mean
    else:
        assert group.mean_file == ("./m.binaryproto" if norm_type in (1, 4) else "null")
        assert not Path("small_mean.txt").exists()
    said = json.loads(run("mapper-cfg", "--check", "small_mapper.cfg", *options, "--json").out)
    rules = {one["rule"] for one in said["findings"] if one["severity"] == "error"}
    assert rules == {"cfg_file"}, "the list is missing"


def test_paths_that_old_programs_stumble_over(job: Path) -> None:
    """What --check warns of in a .cfg is told of when it is written, and nothing else."""
    folder = Path("my nets")
    folder.mkdir()
    for suffix in (".prototxt", ".caffemodel", ".json"):
        shutil.copy(f"net{suffix}", folder / f"größe{suffix}")
    shutil.copytree("pictures", folder / "pictures")
    pair = ("mapper-cfg", folder / "größe.prototxt", folder / "größe.caffemodel", "--images", "pictures")
    for options, keys in (
        (("-o", "plain"), ["prototxt_file", "caffemodel_file"]),
        ((), ["prototxt_file", "caffemodel_file", "instruction_name", "image_list"]),
        (("--absolute", "--force"), ["prototxt_file", "caffemodel_file", "instruction_name", "image_list"]),
    ):
        done = run(*pair, *options)
        cfg = Path("plain.cfg") if options[:1] == ("-o",) else folder / "größe_mapper.cfg"
        found = json.loads(run("mapper-cfg", "--check", cfg, "--json").out)["findings"]
        told = [f"{one['message']} (wanted: {one['limit']}); {one['repair']}" for one in found]
        assert done.code == 0 and done.err.splitlines() == [f"nnie_prep: warning: {one}" for one in told]
        assert [one["message"].split()[0] for one in found] == keys
        assert json.loads(run(*pair, *options, "--json").out)["warnings"] == told
    assert run(*PAIR, "--images", "pictures").err == "", "a plain one is not warned of"


def test_other_keys(job: Path) -> None:
    made(
        *PAIR, "-o", "out.cfg", "--bits", "16", "--batch-num", "0", "--sparse-rate", "0.5", "--simulation",
        "--log-level", "3", "--set", "compress_mode=1", "--set", "roi_coordinate_file=a.txt",
        "--set", "roi_coordinate_file=b.txt", "--order", "bgr", "--image-type", "5", "--chip", "hi3559av100",
    )  # fmt: skip
    cfg = read_cfg(Path("out.cfg"))
    assert (cfg.compile_mode, cfg.batch_num, cfg.sparse_rate, cfg.is_simulation) == (1, 0, 0.5, 1)
    assert (cfg.log_level, cfg.compress_mode, cfg.roi_coordinate_file) == (3, 1, ("a.txt", "b.txt"))
    assert (cfg.instruction_name, cfg.RGB_order, cfg.internal_stride) == ("out_func", "BGR", 32)
    assert cfg.groups[0].image_type == 5
    made(*PAIR, "-o", "other", "--absolute", "--set", "instructions_name=x")
    for output in ("made/", "made"):  # as of the commands that write a pair
        made(*PAIR, "-o", output)
    assert Path("made/net_mapper.cfg").is_file() and Path("made.cfg").is_file()
    assert read_cfg(Path("made/net_mapper.cfg")).prototxt_file == "../net.prototxt"
    assert "names no file" in refuses(job, *PAIR, "-o", "")
    cfg = read_cfg(Path("other.cfg"))
    assert cfg.prototxt_file == f"{job}/net.prototxt" and cfg.instruction_name == "x"


@pytest.mark.parametrize("kind", ["3", "5"])
def test_yuv_is_for_three_channels(folder: Path, kind: str) -> None:
    """Else --check would refuse what was written."""
    text = 'input: "data" input_shape { dim: 1 dim: 1 dim: 16 dim: 24 }\n'
    Path("grey.prototxt").write_text(text + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n')
    Path("grey.caffemodel").write_bytes(NetParameter(layer=[LayerParameter(name="r")]).SerializeToString())
    grey = ("mapper-cfg", "grey.prototxt", "grey.caffemodel", "--scale", "1")
    refused = refuses(folder, *grey, "--image-type", kind)
    assert f"--image-type {kind} is YUV of three channels, and input data has 1" in refused
    made(*grey)
    assert read_cfg(Path("grey_mapper.cfg")).groups[0].image_type == 1


def test_tensors(job: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (3, 3, 16, 24)).astype(np.float32)
    np.save("x.npy", values)
    out = made(*PAIR, "--tensors", "x.npy")
    assert "data: feature map, image_type 0" in out
    cfg = Path("net_mapper.cfg")
    assert (read_cfg(cfg).groups[0].image_type, read_cfg(cfg).groups[0].norm_type) == (0, 0)
    np.testing.assert_array_equal(np.concatenate(cfg_feeds(cfg, {"data": (1, 3, 16, 24)})["data"]), values)
    assert run("mapper-cfg", "--check", "net_mapper.cfg").code == 0


TWO = """input: "left"
input: "size"
input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
input_shape { dim: 1 dim: 4 }
layer { name: "pool" type: "Pooling" bottom: "left" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "abs" type: "AbsVal" bottom: "size" top: "abs" }
"""


def test_two_inputs(job: Path) -> None:
    Path("two.prototxt").write_text(TWO)
    Path("two.caffemodel").write_bytes(NetParameter(layer=[LayerParameter(name="pool")]).SerializeToString())
    np.savez("y.npz", size=np.ones((2, 4), np.float32))
    pair = ("mapper-cfg", "two.prototxt", "two.caffemodel", "--scale", "1")
    made(*pair, "--images", "left=pictures", "--tensors", "size=y.npz", "--mean", "1,2,3")
    first, second = read_cfg(Path("two_mapper.cfg")).groups
    assert (first.image_list, first.norm_type, first.mean_file) == (
        "./two_left_images.txt", 2, "./two_left_mean.txt"
    )  # fmt: skip
    assert (second.image_list, second.image_type, second.norm_type) == ("./two_size_tensors.txt", 0, 0)
    assert "holds size, and the net's inputs are left, size" in refuses(job, *pair, "--tensors", "y.npz")
    assert Path("two_size_tensors.txt").read_text() == "1 1 1 1\n" * 2
    assert run("mapper-cfg", "--check", "two_mapper.cfg", "--scale", "1", "--mean", "1,2,3").code == 0


PICTURES = """input: "left"
input: "right"
input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
layer { name: "a" type: "Convolution" bottom: "left" top: "a"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "right" top: "b"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
"""


@pytest.fixture
def siamese(job: Path) -> tuple[str, str, str]:
    """The command for a net of two pictures, of which the left one is folded: scale 0.5, order BGR."""
    random = np.random.default_rng(0)
    net = NetParameter()
    for name in "ab":
        weights = random.normal(0, 0.3, (2, 3, 3, 3))
        blobs = [
            BlobProto(shape={"dim": one.shape}, data=one.ravel()) for one in (weights, random.normal(0, 1, 2))
        ]
        net.layer.append(LayerParameter(name=name, blobs=blobs))
    Path("both.prototxt").write_text(PICTURES)
    Path("both.caffemodel").write_bytes(net.SerializeToString())
    made("merge-bn", "both.prototxt", "both.caffemodel", "--fold-input", "scale=0.5,order=bgr,input=left",
         "-o", "one", "-q")  # fmt: skip
    return ("mapper-cfg", "one.prototxt", "one.caffemodel")


@pytest.mark.parametrize(
    ("options", "norm_type", "scale", "mean"),
    [
        (("--scale", "right=0.25"), 3, 0.25, None),
        (("--scale", "0.25"), 3, 0.25, None),
        (("--scale", "0.25", "--mean", "right=7,8,9"), 5, 0.25, [7, 8, 9]),
        (("--scale", "0.25", "--scale", "right=0.125"), 3, 0.125, None),
        (("--mean", "right=7", "--mean", "8"), 2, 1, [7, 7, 7]),
    ],
)
def test_the_input_that_is_not_folded(
    job: Path,
    siamese: tuple[str, ...],
    options: tuple[str, ...],
    norm_type: int,
    scale: float,
    mean: list[float] | None,
) -> None:
    out = made(*siamese, "--images", "pictures", *options)
    assert "left: BGR (norm_type 0; --fold-input)" in out
    left, right = read_cfg(Path("one_mapper.cfg")).groups
    assert (left.norm_type, left.scale) == (0, 1)
    assert (right.norm_type, right.scale) == (norm_type, pytest.approx(scale))
    values = np.loadtxt("one_right_mean.txt").tolist() if mean else None
    assert values == mean
    check = ("mapper-cfg", "--check", "one_mapper.cfg", "--chip", "hi3516dv300")
    assert run(*check, *options).code == 0
    assert "nobody says how input right is to be normalised" in run(*check).out


def test_the_mean_of_an_input_whose_scale_is_folded(job: Path, siamese: tuple[str, ...]) -> None:
    """What --fold-input advises where a mean does not go through a padding: the compiler subtracts it."""
    made(*siamese, "--images", "pictures", "--scale", "right=0.25", "--mean", "left=7,8,9")
    left, right = read_cfg(Path("one_mapper.cfg")).groups
    assert (left.norm_type, left.scale, right.norm_type) == (2, 1, 3)
    assert Path("one_left_mean.txt").read_text() == "7.0\n8.0\n9.0\n"
    check = ("mapper-cfg", "--check", "one_mapper.cfg", "--scale", "right=0.25")
    assert run(*check).code == 0 and run(*check, "--mean", "left=7,8,9").code == 0
    assert "7,8,9 is subtracted from input left" in run(*check, "--mean", "left=70,8,9").out
    text = Path("one_mapper.cfg").read_text().replace("[norm_type] 2", "[norm_type] 5")
    Path("one_mapper.cfg").write_text(text)
    assert "input left is normalised by --fold-input" in run(*check).out
    made("merge-bn", "both.prototxt", "both.caffemodel", "--fold-input",
         "scale=0.5,mean=1/2/3,order=bgr,input=left", "-o", "whole", "-q")  # fmt: skip
    said = refuses(job, "mapper-cfg", "whole.prototxt", "whole.caffemodel", "--mean", "left=7")
    assert "input left is normalised by the net itself (--fold-input)" in said


def test_nothing_is_asked_twice_of_a_folded_input(job: Path, siamese: tuple[str, ...]) -> None:
    for options, says in (
        ((), "input right was normalised in training; give --transform train_val.prototxt, or --scale, "
             "--mean and --order (raw: --scale right=1)"),
        (("--scale", "left=0.5"), "input left is normalised by the net itself (--fold-input); leave"),
        (("--scale", "rihgt=0.5"), "--scale rihgt=0.5: the net has no input 'rihgt'; did you mean right"),
        (("--mean", "rihgt=0.5"), "--mean rihgt=0.5: the net has no input 'rihgt'"),
        (("--scale", "1", "--scale", "2"), "--scale is given 2 times for input left; write INPUT=VALUE"),
        (("--scale", "right="), "--scale: says nothing for input right"),
        (("--scale", "right=x"), "--scale x: is no factor"),
        (("--scale", "1", "--tensors", "right=x.npy"), "input left is normalised by the net itself"),
    ):  # fmt: skip
        assert says in refuses(job, *siamese, *options)


def test_check_finds_what_users_hit(job: Path) -> None:
    made(*PAIR, "--images", "pictures")
    text = Path("net_mapper.cfg").read_text()
    Path("net_mapper.cfg").write_text(text.replace("0.003921568627", "0.0039062").replace("] RGB", "] BGR"))
    done = run("mapper-cfg", "--check", "net_mapper.cfg")
    assert done.code == 1
    assert done.out.splitlines() == [
        "net_mapper.cfg:10: error: RGB_order is BGR, and input data wants RGB (net.json) (wanted: RGB) "
        "[cfg_order]",
        "    set RGB_order RGB",
        "net_mapper.cfg:11: error: input data is multiplied by 0.0039062 (norm_type 3) "
        "(wanted: 0.003921568627 (net.json)) [cfg_scale]",
        "    set data_scale 0.003921568627, with norm_type 3, 4 or 5",
        "",
        "NOT ACCEPTED for every chip's limits: 2 errors, 0 warnings, 0 hints",
        "check --explain RULE says more of a rule",
    ]
    said = json.loads(run("mapper-cfg", "--check", "net_mapper.cfg", "--json").out)
    assert (said["passed"], said["counts"]["error"], said["findings"][0]["line"]) == (False, 2, 10)
    assert "Red and blue are swapped" in run("check", "--explain", "cfg_order").out
    assert "cfg_picture_count" in run("mapper-cfg", "--rules").out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "PROTOTXT and CAFFEMODEL are missing; give both, or --check FILE.cfg"),
        (("net.prototxt",), "CAFFEMODEL is missing; give both"),
        (("net.prototxt", "net.caffemodel", "--images", "none"), "none: is no folder"),
        (("net.prototxt", "net.caffemodel", "--mean", "none"), "--mean none: is neither numbers nor a file"),
        (("net.prototxt", "net.caffemodel", "--mean", "nan,1,2"), "--mean nan,1,2: is neither numbers"),
        (("net.prototxt", "net.caffemodel", "--images", "daat=x"), "no input 'daat'; did you mean data"),
        (("net.prototxt", "net.caffemodel", "--tensors", "x=x.npy"), "no input 'x'; choose from data"),
        (("net.prototxt", "net.caffemodel", "--scale", "0"), "--scale 0: is no factor; write 0.017, say"),
        (("net.prototxt", "net.caffemodel", "--scale", "nan"), "--scale nan: is no factor"),
        (("net.prototxt", "net.caffemodel", "--scale", "1e999"), "--scale 1e999: is no factor"),
        (("net.prototxt", "net.caffemodel", "--mean", "x.binaryproto"), "x.binaryproto: does not exist"),
        (("net.prototxt", "net.caffemodel", "--mean", "1,2"), "input data: 2 values for 3 channels"),
        (("net.prototxt", "net.caffemodel", "--set", "x"), "--set x: is no KEY=VALUE"),
        (("net.prototxt", "net.caffemodel", "--set", "net_tipe=1"), "did you mean net_type?"),
        (("net.prototxt", "net.caffemodel", "--set", "RGB_order=BGR"), "its inputs; give --order"),
        (("net.prototxt", "net.caffemodel", "--set", "prototxt_file=x"), "give it as PROTOTXT"),
        (
            ("net.prototxt", "net.caffemodel", "--set", "net_type=0", "--set", "net_type=1"),
            "--set net_type=1: net_type is given twice; leave one of them",
        ),
        (("net.prototxt", "net.caffemodel", "--batch-num", "257"), "batch_num is 257; it must be 0..256"),
        (("net.prototxt", "net.caffemodel", "--images", "pictures", "--tensors", "x"), "input data has pic"),
        (("--check", "none.cfg"), "none.cfg: cannot be read"),
        (("--check", "none.cfg", "-o", "x", "--resize"), "-o, --resize: --check only looks at what is there"),
        (
            ("net.cfg", "net.weights"),
            "a [ stands where a field is expected; give a prototxt; of a .cfg and .weights of Darknet `nnie",
        ),
        (("--check", "net.cfg"), "net.cfg:1: 'net' is no key of the compiler's"),
    ],
)  # fmt: skip
def test_mistakes(job: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refuses(job, "mapper-cfg", *options)


def test_set_sets_what_no_option_does(job: Path) -> None:
    """Each key of the compiler's is written as it is asked for, or refused with what to give in its place."""
    values = {"RGB_order": "BGR", "image_list": "x", "mean_file": "x", "data_scale": "0.5", "norm_type": "1"}
    for key in (*KEYS, *GROUP_KEYS):
        text = f"{key}={values.get(key, '1')}"
        done = run(*PAIR, "--set", text, "-o", key, "-q")
        if done.code:
            assert "follows from the net and its inputs; give " in done.err or "it must be" in done.err, text
        else:
            assert str(getattr(read_cfg(Path(f"{key}.cfg")), key)) in ("1", "1.0", "('1',)"), text


def test_nobody_says_how_it_is_normalised(job: Path) -> None:
    Path("net.json").unlink()
    said = refuses(job, *PAIR)
    assert "net.prototxt: nobody says how input data was normalised in training; give --transform" in said
    made(*PAIR, "--scale", "0.5", "--order", "rgb")
    group = read_cfg(Path("net_mapper.cfg"))
    assert (group.RGB_order, group.groups[0].scale) == ("RGB", 0.5)


def test_quantize_sim_takes_the_pictures_of_the_cfg(job: Path) -> None:
    made(*PAIR, "--images", "pictures", "--count", "3")
    said = json.loads(made("quantize-sim", *PAIR[1:], "--cfg", "net_mapper.cfg", "--json", "--propose", "0"))
    assert said["pictures"] == 3 and said["proposal"] is None
    net = read_net(*map(Path, PAIR[1:]))
    simulation, names = Simulation(net), Path("net_images.txt").read_text().split()
    for name in names:
        picture = cv2.resize(cv2.imread(name), (24, 16))[:, :, ::-1].transpose(2, 0, 1)
        feeds = {"data": np.ascontiguousarray(picture[None] / np.float32(255), np.float32)}
        exact = simulation.calibrate(feeds)
    rounded = simulation.run(feeds)
    layers = {row["layer"]: row for row in said["layers"]}
    (last,) = net.outputs()
    # one level in a pixel of thousands moves the noise by a few tenths of a decibel
    assert layers[net.last_writers()[last].name]["end_to_end"] == pytest.approx(
        snr(exact[last], rounded[last]), abs=1.0
    )


@pytest.mark.parametrize(
    ("prototxt", "caffemodel", "warns"),
    [
        ("./net.prototxt", "./net.caffemodel", False),
        (r"mark_prototxt\net_mark_nnie_2026.prototxt", r".\net.caffemodel", False),
        ("./other.prototxt", "./other.caffemodel", True),
    ],
)
def test_a_cfg_of_another_net(job: Path, prototxt: str, caffemodel: str, warns: bool) -> None:
    made(*PAIR, "--images", "pictures", "--count", "3")
    cfg = Path("net_mapper.cfg")
    text = cfg.read_text().replace("./net.prototxt", prototxt).replace("./net.caffemodel", caffemodel)
    cfg.write_text(text)
    done = run("quantize-sim", *PAIR[1:], "--cfg", cfg, "--propose", "0")
    assert done.code == 0 and done.out.startswith("net.prototxt at 8 bits")
    told = f"{cfg}: is about {prototxt} and {caffemodel}; net.prototxt is fed as that net is"
    assert done.err == (f"nnie_prep: warning: {told}\n" if warns else "")
    assert run("quantize-sim", *PAIR[1:], "--cfg", cfg, "--propose", "0", "-q").err == ""
    told = f"{cfg}:1: warning: is about {prototxt} and {caffemodel} (wanted: net.prototxt and net.caffemodel)"
    assert (told in run(*PAIR, "--check", cfg).out) == warns
    assert "is about" not in run("mapper-cfg", "--check", cfg).out


def test_compare_dump_takes_the_last_picture_of_the_cfg(job: Path) -> None:
    made(*PAIR, "--images", "pictures", "--count", "4")
    fed = cfg_feeds(Path("net_mapper.cfg"), {"data": (1, 3, 16, 24)})["data"]
    Path("dumps").mkdir()
    net = read_net(*map(Path, PAIR[1:]))
    layer = next(layer for layer in net.layers if layer.bottoms)
    file = Path("dumps", f"{layer.name}_input0_3_16_24_quant.linear.float")
    for picture, code in ((fed[-1], 0), (1 - fed[0], 1)):
        file.write_text("\n".join(map(str, picture.reshape(-1).tolist())))
        assert run("compare-dump", *PAIR[1:], "dumps", "--cfg", "net_mapper.cfg").code == code
    refuses(job, "compare-dump", *PAIR[1:], "dumps")
    shutil.rmtree("pictures")
    assert "cannot be read" in refuses(job, "compare-dump", *PAIR[1:], "dumps", "--cfg", "net_mapper.cfg")


def test_prepare_writes_the_cfg_too(job: Path) -> None:
    """As mapper-cfg does for the same pair, so that the folder is what RuyiStudio is given."""
    done = run("prepare", "net.cfg", "net.weights", "-o", "out/", "--images", "pictures", "-q")
    assert (done.code, done.out) == (0, "")
    assert run("mapper-cfg", "--check", "out/net_mapper.cfg", "--chip", "hi3516dv300", "-q").code == 0
    cfg = Path("out/net_mapper.cfg").read_bytes()
    assert b"[norm_type] 3" in cfg and b"[RGB_order] RGB" in cfg
    again = ("mapper-cfg", "out/net.prototxt", "out/net.caffemodel", "--images", "pictures", "--resize", "-q")
    before = listing(Path("out"))
    assert run(*again).code == 0
    assert listing(Path("out")) == before


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("none", "none: is no folder"),
        ("net.cfg", "net.cfg: is no folder"),
        ("out", "out: holds no picture that the compiler reads"),
    ],
)
def test_prepare_looks_for_pictures_before_the_work(job: Path, images: str, says: str) -> None:
    Path("out").mkdir()
    assert says in refuses(job, "prepare", "net.cfg", "net.weights", "-o", "x", "--images", images)


def test_what_detect_drew_is_no_calibration_picture(job: Path) -> None:
    """It lies beside its picture, which may well be one of them. A name alone says nothing."""
    made("prepare", "net.cfg", "net.weights", "-o", "d")
    Path("seen").mkdir()
    for name in ("a.png", "b_detected.png"):
        Path("seen", name).write_bytes(next(Path("pictures").glob("*.png")).read_bytes())
    made("detect", "d.prototxt", "d.caffemodel", "seen/a.png")
    assert Path("seen/a_detected.png").is_file()
    made("mapper-cfg", "d.prototxt", "d.caffemodel", "--images", "seen")
    assert Path("d_images.txt").read_text().split() == ["./seen/a.png", "./seen/b_detected.png"]


def test_prepare_takes_the_scale_from_its_source(job: Path) -> None:
    """The result has lost the data layer that says it. Where nobody does, the pair is there all the same."""
    prepare = ("prepare", "small.prototxt", "small.caffemodel", "--images", "pictures", "-q", "-o")
    assert run(*prepare, "a").code == 0
    assert (
        "data_scale" not in Path("a.prototxt").read_text()
        and "transform" not in Path("a.prototxt").read_text()
    )
    cfg = read_cfg(Path("a_mapper.cfg"))
    assert cfg.groups[0].norm_type == 3 and cfg.groups[0].data_scale == 0.00390625

    told = "transform_param { scale: 0.00390625 crop_size: 13 }"
    text = Path("small.prototxt").read_text()
    Path("small.prototxt").write_text(text.replace(told, ""))
    done = run(*prepare, "b")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "nobody says how" in done.err
    again = "nnie-prep mapper-cfg b.prototxt b.caffemodel --images pictures --resize: give --transform"
    assert f"the pair is written, its .cfg is not; for that, {again}" in done.err
    assert Path("b.prototxt").is_file() and not Path("b_mapper.cfg").exists()
    done = run(*(option for option in prepare if option != "-q"), "c")
    assert done.code == 2 and "\nEQUAL: " in done.out and "\nwrote c.prototxt" in done.out


TOLD = "transform_param { scale: 0.00390625 crop_size: 13 }"
MORE = (
    "transform_param { scale: 0.0078125 mirror: true crop_size: 13 "
    "mean_value: 104 mean_value: 117.5 mean_value: 123 }"
)
OTHER = """layer { name: "d" type: "Data" top: "data" transform_param { scale: 0.5 } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""


@pytest.fixture
def trained(job: Path) -> Path:
    """small.prototxt, whose layer for training subtracts a mean and mirrors."""
    text = Path("small.prototxt").read_text()
    assert TOLD in text
    Path("small.prototxt").write_text(text.replace(TOLD, MORE))
    return job


@pytest.mark.parametrize("command", ["prepare", "merge-bn", "strip"])
def test_what_the_data_layer_did_is_not_lost(trained: Path, command: str) -> None:
    """The pair is taken elsewhere, without its source."""
    Path("out").mkdir()
    made(command, "small.prototxt", "small.caffemodel", "-o", "out/n", "-q")
    assert json.loads(Path("out/n.json").read_text())["input"] == {
        "blob": "data",
        "scale": 0.0078125,
        "mean": [104, 117.5, 123],
        "order": "BGR",
        "trained_with": {
            "layer": "pictures",
            "transform_param": "scale: 0.0078125 mirror: true crop_size: 13 "
            "mean_value: 104.0 mean_value: 117.5 mean_value: 123.0",
        },
    }
    Path("small.prototxt").unlink()
    out = made("mapper-cfg", "out/n.prototxt", "out/n.caffemodel", "--images", "pictures", "--resize")
    assert "data: BGR, minus 104/117.5/123, times 0.0078125 (norm_type 5; n.json)" in out
    assert Path("out/n_mean.txt").read_text() == "104.0\n117.5\n123.0\n"
    if command == "prepare":
        report = Path("out/n.report.txt").read_text()
        for line in ("[norm_type] 5", "[data_scale] 0.0078125", "[RGB_order] BGR",
                     "[mean_file] one that holds 104, 117.5, 123, one a line"):  # fmt: skip
            assert f"  {line}\n" in report
        assert "as layer pictures fed it in training: scale: 0.0078125 mirror: true crop_size: 13" in report
    found = run("check", "out/n.prototxt", "out/n.caffemodel", "-v").out
    assert "the net is fed with BGR, less the mean 104,117.5,123, multiplied by 0.0078125000" in found
    assert "norm_type 4 or 5" in found
    made("merge-bn", "out/n.prototxt", "out/n.caffemodel", "-o", "again", "-q")
    assert json.loads(Path("again.json").read_text())["input"]["mean"] == [104, 117.5, 123], "handed on"
    Path("other.prototxt").write_text(OTHER)
    made("mapper-cfg", "again.prototxt", "again.caffemodel", "--transform", "other.prototxt", "-q")
    assert read_cfg(Path("again_mapper.cfg")).groups[0].scale == 0.5, "who is named is believed"


def test_a_mean_file_that_stayed_behind(trained: Path) -> None:
    text = Path("small.prototxt").read_text()
    Path("small.prototxt").write_text(text.replace(MORE, 'transform_param { mean_file: "m.binaryproto" }'))
    blob = BlobProto(num=1, channels=3, height=11, width=13, data=[100.0] * 429)
    made("prepare", "small.prototxt", "small.caffemodel", "-o", "out/", "-q")
    pair = ("mapper-cfg", "out/small_nnie.prototxt", "out/small_nnie.caffemodel")
    assert "[mean_file] m.binaryproto" in Path("out/small_nnie.report.txt").read_text()
    said = refuses(trained, *pair)
    assert said == (
        "out/m.binaryproto: does not exist, and is the mean of input data (small_nnie.json); "
        "give it with --mean FILE.binaryproto"
    )
    Path("mine.binaryproto").write_bytes(blob.SerializeToString())
    made(*pair, "--mean", "mine.binaryproto")
    assert read_cfg(Path("out/small_nnie_mapper.cfg")).groups[0].mean_file == "../mine.binaryproto"
    Path("out/m.binaryproto").write_bytes(blob.SerializeToString())
    made(*pair, "--force")
    assert read_cfg(Path("out/small_nnie_mapper.cfg")).groups[0].mean_file == "./m.binaryproto"


def test_two_data_layers_and_one_folded_input(job: Path, siamese: tuple[str, ...]) -> None:
    """Each input keeps what its own layer did, and what is folded is said in its place."""
    layers = "".join(
        f'layer {{ name: "{name}" type: "Data" top: "{name}" include {{ phase: TRAIN }} '
        f"transform_param {{ scale: {scale} }} }}\n"
        for name, scale in (("left", 0.5), ("right", 0.25))
    )
    Path("both.prototxt").write_text(PICTURES + layers)
    made("merge-bn", "both.prototxt", "both.caffemodel", "-o", "plain", "-q")
    entries = json.loads(Path("plain.json").read_text())["inputs"]
    assert [(one["blob"], one["scale"]) for one in entries] == [("left", 0.5), ("right", 0.25)]
    made("merge-bn", "both.prototxt", "both.caffemodel", "-o", "one", "-q",
         "--fold-input", "scale=0.5,order=bgr,input=left", "--force")  # fmt: skip
    out = made(*siamese)
    assert "left: BGR (norm_type 0; --fold-input)" in out
    assert "right: BGR, times 0.25 (norm_type 3; one.json)" in out


def test_prepare_tells_of_both_in_one_document(job: Path) -> None:
    """What --images has written, and what is doubtful of it, stands with the pair."""
    asked = ("prepare", "net.cfg", "net.weights", "--images", "pictures", "-o", "out/")
    Path("out").mkdir()
    document = json.loads(run(*asked, "--json").out)
    written = {str(path) for path in Path("out").rglob("*") if path.is_file()}
    assert set(document["outputs"]) == written and "out/net_mapper.cfg" in written
    alone = ("mapper-cfg", "out/net.prototxt", "out/net.caffemodel", "--images", "pictures", "--resize")
    made_alone = json.loads(run(*alone, "--json").out)
    assert set(made_alone["written"]) < written
    for path in list(Path("pictures").iterdir())[3:]:
        path.unlink()
    warned = json.loads(run(*asked, "--force", "--json").out)
    assert warned["warnings"] == [
        *document["warnings"],
        "pictures: 3 pictures; 20..50 typical ones make good ranges",
    ]
    done = run(*asked, "--force")
    assert done.err == f"nnie_prep: warning: {warned['warnings'][-1]}\n"
    assert done.out.index("wrote out/net.prototxt") < done.out.index("wrote out/net_mapper.cfg")
    assert json.loads(run("prepare", "net.cfg", "net.weights", "--json", "--force").out)["outputs"] == [
        f"net{suffix}" for suffix in (".prototxt", ".caffemodel", ".json", ".report.txt")
    ]
