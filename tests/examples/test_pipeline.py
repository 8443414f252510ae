"""examples/pipeline at work on five models, one of them broken: each file's own commands are run.

In the place of the image stands the nnie-prep that is tested, in the place of docker a script that takes the
options that the files give it. The files are held to the official schemas of their tools.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cli_cases import listing, write_caffe, write_darknet
from hera.workflows.models import Workflow
from junitparser import JUnitXml

pytestmark = pytest.mark.slow

PIPELINE = Path(__file__).parents[2] / "examples" / "pipeline"
NAMES = ["a", "b", "c", "d", "small"]
SOUND = ["a", "b", "d", "small"]
IMAGE = "the/image:1"

DOCKER = f"""\
#!/bin/sh
[ "$1" = run ] && shift || exit 125
while :; do
    case "$1" in
    --rm) shift ;;
    --network) [ "$2" = none ] || exit 125; shift 2 ;;
    --user) [ "$2" = "$(id -u):$(id -g)" ] || exit 125; shift 2 ;;
    -v) [ "${{2#*:}}" = /models ] && cd "${{2%:/models}}" || exit 125; shift 2 ;;
    *) break ;;
    esac
done
[ "$1" = {IMAGE} ] && shift || exit 125
exec nnie-prep "$@"
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """What a user has: the files of the example, and models, of which c's weights are cut off."""
    place = tmp_path / "repo"
    shutil.copytree(PIPELINE, place)
    models = place / "models"
    models.mkdir()
    for seed, name in enumerate(NAMES[:-1]):
        write_darknet(models, name, seed)
    write_caffe(models)
    (models / "c.weights").write_bytes((models / "c.weights").read_bytes()[:-8])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    return place


def environment(repo: Path, **variables: str) -> dict[str, str]:
    path = [str(repo.parent / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return {**inherited, "PATH": os.pathsep.join(path), **variables}


def shell(repo: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-e", "-c", script]
    return subprocess.run(
        command, cwd=repo, env=environment(repo, **variables), capture_output=True, text=True
    )


def load(name: str) -> Any:
    return yaml.safe_load((PIPELINE / name).read_text())


def prepared(repo: Path) -> list[str]:
    return sorted(path.stem for path in (repo / "prepared").glob("*.prototxt"))


def reported(repo: Path, name: str = "report.xml") -> dict[str, bool]:
    """Model -> whether it passed, by the test report that the pipeline shows."""
    (suite,) = JUnitXml.fromfile(str(repo / name))
    return {case.name: not case.result for case in suite}


# ---- make ----------------------------------------------------------------------------------------


def make(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=repo, env=environment(repo), capture_output=True, text=True
    )


def ready(repo: Path) -> dict[str, int]:
    """Name -> when its folder appeared; every folder is whole."""
    found = {path.name.removesuffix(".wk-ready"): path for path in (repo / "models").glob("*.wk-ready*")}
    for name, path in found.items():
        files = {file.name for file in path.iterdir()}
        assert {f"{name}.prototxt", f"{name}.caffemodel", f"{name}.json"} <= files
        assert not [file for file in files if file.startswith(".")]
    return {name: path.stat().st_ino for name, path in sorted(found.items())}


def repair(repo: Path) -> None:
    write_darknet(repo / "models", "c", 2)


@pytest.mark.parametrize("how", ["", f"IMAGE={IMAGE}"])
def test_make(repo: Path, how: str) -> None:
    """Past the broken one, which is tried again; what is there is not; then new weights."""
    for tried in (5, 1):
        done = make(repo, "-k", "-j2", *how.split())
        assert done.returncode == 2
        assert "models/c.cfg:57: the weights file models/c.weights ends in section 9" in done.stderr
        assert done.stdout.count("prepare models/") == tried
        first = ready(repo)
        assert list(first) == SOUND
    repair(repo)
    assert make(repo, "-j2", *how.split()).returncode == 0
    second = ready(repo)
    assert list(second) == NAMES and second.items() > first.items()
    assert "Nothing to be done" in make(repo, *how.split()).stdout

    write_darknet(repo / "models", "b", 9)
    assert make(repo, "models/b.wk-ready/", *how.split()).returncode == 0
    assert [name for name, inode in ready(repo).items() if inode != second[name]] == ["b"]
    expected = shell(repo, "mkdir x; nnie-prep prepare models/b.cfg models/b.weights -o x/b --target nnie")
    assert expected.returncode == 0
    assert listing(repo / "x") == listing(repo / "models/b.wk-ready")
    make(repo, "clean")
    assert ready(repo) == {}


def waiting(repo: Path, for_whom: str, script: str) -> str:
    """A nnie-prep that does something else for some of the models."""
    path = repo / "waiter"
    path.write_text(f'#!/bin/sh\ncase "$2" in {for_whom})\n{script};;\nesac\nexec nnie-prep "$@"\n')
    path.chmod(0o755)
    return "NNIE_PREP=./waiter"


def test_make_works_on_two_at_once(repo: Path) -> None:
    """Each of the first two waits for the other."""
    meet = "touch $$.here; for i in $(seq 300); do [ $(ls *.here | wc -l) -ge 2 ] && break; sleep 0.1; done\n"
    alone = '[ $(ls *.here | wc -l) -ge 2 ] || { echo "nobody came" >&2; exit 3; }'
    done = make(repo, "-k", "-j2", waiting(repo, "*/[ab].cfg", meet + alone))
    assert list(ready(repo)) == SOUND
    assert "nobody came" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_make_interrupted_and_restarted(repo: Path, number: int) -> None:
    """No folder of what was being done appears, and the next run does that and no more."""
    repair(repo)
    arguments = ["make", "-j2", waiting(repo, "*/[cd].cfg", "echo $$ > $$.here; exec sleep 60")]
    running = subprocess.Popen(
        arguments,
        cwd=repo,
        env=environment(repo),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGTERM)],
    )
    deadline = time.monotonic() + 60
    while len(list(repo.glob("*.here"))) < 2:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, number)
    assert running.wait(60) != 0
    first = {name: inode for name, inode in ready_or_part(repo).items() if not name.endswith(".part")}
    assert "c" not in first and "d" not in first
    assert make(repo, "-j2").returncode == 0
    assert list(ready(repo)) == NAMES
    assert ready(repo).items() >= first.items()


def ready_or_part(repo: Path) -> dict[str, int]:
    folders = (repo / "models").glob("*.wk-ready*")
    return {path.name.replace(".wk-ready", ""): path.stat().st_ino for path in folders}


# ---- services ------------------------------------------------------------------------------------


def check_parts(repo: Path, runs: list[tuple[subprocess.CompletedProcess[str], dict[str, bool]]]) -> None:
    """Together the machines did all models, the one that had the broken one said so, and no other."""
    found = [name for _, passed in runs for name in passed]
    assert sorted(found) == NAMES
    for done, passed in runs:
        assert done.returncode == ("c" in passed), done
        assert passed == {name: name != "c" for name in passed}
    assert prepared(repo) == SOUND


def test_gitlab(repo: Path) -> None:
    (job,) = load(".gitlab-ci.yml").values()
    total = job["parallel"]
    runs = []
    for index in range(1, total + 1):
        variables = {"CI_NODE_INDEX": str(index), "CI_NODE_TOTAL": str(total)}
        done = shell(repo, "\n".join(job["script"]), **variables)
        runs.append((done, reported(repo, job["artifacts"]["reports"]["junit"])))
    check_parts(repo, runs)
    assert job["artifacts"]["paths"] == job["cache"]["paths"] == ["prepared/"]
    assert job["image"]["name"] == "$NNIE_PREP_IMAGE"


def filled(text: str, values: Mapping[str, object]) -> str:
    """An expression's value in the place of each ${{ name }} or {{name}}."""
    return re.sub(r"\$?\{\{ ?([\w.]+) ?\}\}", lambda match: str(values[match[1]]), text)


def test_github(repo: Path) -> None:
    job = load(".github/workflows/models.yml")["jobs"]["prepare"]
    (step,) = [step for step in job["steps"] if "run" in step]
    assert "${{" not in step["run"], "what is put into a script is not quoted by anybody"
    runs = []
    for part in job["strategy"]["matrix"]["part"]:
        values = {"matrix.part": part, "vars.NNIE_PREP_IMAGE": IMAGE}
        variables = {name: filled(value, values) for name, value in job["env"].items()}
        runs.append((shell(repo, step["run"], **variables), reported(repo)))
    check_parts(repo, runs)
    saved = [step["with"]["path"] for step in job["steps"] if step.get("if") == "always()"]
    assert [path.split() for path in saved] == [["prepared"], ["prepared/", "report.xml"]]


def test_jenkins(repo: Path) -> None:
    text = (PIPELINE / "Jenkinsfile").read_text()
    assert text.count("{") == text.count("}")
    (script,) = re.findall(r"sh '''(.*?)'''", text, re.S)
    done = shell(repo, script, NNIE_PREP_IMAGE=IMAGE)
    (report,) = re.findall(r"junit '(.*?)'", text)
    check_parts(repo, [(done, reported(repo, report))])
    assert shell(repo, script, NNIE_PREP_IMAGE="another").returncode == 125


def test_kubernetes(repo: Path) -> None:
    """Each pod's arguments, filled in as the kubelet does. Pods that have no model end well."""
    spec = load("kubernetes-job.yaml")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (variable,) = container["env"]
    runs = []
    for index in range(spec["completions"]):
        arguments = [one.replace(f"$({variable['name']})", str(index)) for one in container["args"]]
        done = shell(repo, f"nnie-prep {' '.join(arguments)} --junit report.xml")
        runs.append((done, reported(repo)))
    check_parts(repo, runs)
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert {done.returncode for done, _ in runs} - {0} <= set(rule["onExitCodes"]["values"])
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_argo(repo: Path) -> None:
    spec = load("argo-workflow.yaml")["spec"]
    templates = {template["name"]: template for template in spec["templates"]}
    (listed,), (each,) = templates[spec["entrypoint"]]["steps"]

    def run(template: str, values: dict[str, object]) -> subprocess.CompletedProcess[str]:
        container = templates[template]["container"]
        words = [filled(word, values) for word in container["command"] + container["args"]]
        assert filled(container["image"], {"workflow.parameters.image": IMAGE}) == IMAGE
        return subprocess.run(words, cwd=repo, env=environment(repo), capture_output=True, text=True)

    result = run(listed["template"], {}).stdout
    items = json.loads(filled(each["withParam"], {f"steps.{listed['name']}.outputs.result": result}))
    assert items == NAMES
    (parameter,) = each["arguments"]["parameters"]
    for item in items:
        value = filled(parameter["value"], {"item": item})
        done = run(each["template"], {f"inputs.parameters.{parameter['name']}": value})
        assert done.returncode == (item == "c")
    assert prepared(repo) == SOUND


# ---- schemas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schema"),
    [(".gitlab-ci.yml", "gitlab-ci"), (".github/workflows/models.yml", "github-workflows")],
)
def test_the_schemas_of_the_services(tmp_path: Path, name: str, schema: str) -> None:
    """And that the check would find a key that is none."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, PIPELINE / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((PIPELINE / name).read_text().replace("paths: [", "path: ["))
    assert subprocess.run([*command, wrong], capture_output=True).returncode == 1


def test_the_schema_of_kubernetes() -> None:
    job = load("kubernetes-job.yaml")
    for version in ("1.30", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    job["spec"]["completion"] = 8
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.30", strict=True)


def test_the_types_of_argo() -> None:
    """Types generated from Argo's API take every value, and know every key."""
    workflow = load("argo-workflow.yaml")
    assert Workflow.model_validate(workflow).model_dump(by_alias=True, exclude_none=True) == workflow


def test_no_file_names_a_registry() -> None:
    for path in PIPELINE.rglob("*"):
        if path.is_file():
            text = path.read_text()
            hosts = re.findall(r"\b[\w-]+\.(?:io|com|org|net)/\S*", text)
            assert set(hosts) <= {"argoproj.io/v1alpha1", "kubernetes.io/job-completion-index']"}, path
            for line in re.findall(r"^\s*image: *(.*)$", text, re.M):
                assert line in ("", "NNIE_PREP_IMAGE", '"{{workflow.parameters.image}}"'), path
