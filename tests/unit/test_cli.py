"""The command line: its help teaches, it does what it says, and whatever is wrong ends in one clear line with nothing lost."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import draw_faces, write_celeba
from PIL import Image
from rendered import write_set
from tiny import TINY

from aia_lib import cli, poster
from aia_lib.config import PROFILES
from aia_lib.machine.files import UserError
from aia_lib.machine.stage import signed


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "fast", TINY)
    monkeypatch.setattr(sys, "path", [*sys.path])  # `aia audit` adds the current folder
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("AIA_PROFILE", raising=False)


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CelebA's layout with as few people as an audit takes: fifty of each label, three images a person."""
    return write_celeba(tmp_path_factory.mktemp("celeba"), draw_faces(100, 3, 64, 0))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one's own: forty people with two images each."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    lines = ["identity,gender,glasses"]
    for person in range(40):
        folder = root / f"person-{person:02d}"
        folder.mkdir()
        for image in range(2):
            Image.fromarray(rng.integers(0, 256, (24, 24)).astype(np.uint8)).save(folder / f"{image}.png")
        lines.append(f"{folder.name},{'male' if person % 2 else 'female'},{person // 20}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered set, with drawings for faces: sixty people, two images each of 32 pixels."""
    return write_set(tmp_path_factory.mktemp("drawn") / "set", 60, 2, 32, shard=20)


@pytest.fixture(scope="module")
def finished(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "fast", TINY)
        patch.setenv("AIA_CACHE", str(out.parent / "cache"))
        assert cli.main([*run_arguments(celeba, out)]) == 0
    return out


def run_arguments(celeba: Path, out: Path) -> list[str]:
    return ["run", "--data", "celeba", "--root", str(celeba), "--profile", "fast", "--seeds", "1", "--quiet", "--out", str(out)]


@pytest.fixture
def aia(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """aia("run", "--seeds", 1, …) calls the command line here and gives its status, out and err."""

    def call(*arguments: object) -> SimpleNamespace:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way
            status = stop.code
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return call


def refused(result: SimpleNamespace, *words: str) -> None:
    """One line on stderr that holds `words`, and status 2."""
    assert result.status == 2, result
    assert result.err.count("\n") == 1 and result.err.startswith("aia"), result.err
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in result.err


def process(*arguments: object, **settings: object) -> subprocess.Popen:
    """The command line in a process of its own, with the tiny profile."""
    import torch

    code = f"import sys; from aia_lib.config import *; PROFILES['fast'] = {TINY!r}; from aia_lib.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **settings)


# --- help -------------------------------------------------------------------------------------------------------------

COMMANDS = "|run|audit|sweep|data|data check|data prepare|data render|data download|templates|templates extract|attributes".split("|")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_teaches_by_examples_and_fits(aia, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    result = aia(*command.split(), "--help")
    assert result.status == 0 and not result.err
    assert max(map(len, result.out.splitlines())) <= 90
    assert f"aia {command}".strip() in result.out
    assert "example" in result.out or "aia run --data celeba" in result.out
    optional = ["--seeds N  "] if command == "data render" else ["--seeds N  ", "--out FOLDER  "]
    defaults = [line for line in result.out.splitlines() if any(option in line for option in optional)]
    assert all("default" in line for line in defaults)


def test_the_examples_of_the_help_are_right(aia, monkeypatch):
    """Each line of an example is parsed by the parser that it is an example for."""
    examples = []
    for command in COMMANDS:
        examples += [line.strip() for line in aia(*command.split(), "--help").out.splitlines() if line.strip().startswith("aia ")]
    examples = [line.split("     ")[0].split() for line in examples if "--help" not in line]
    assert len(examples) > 12
    for example in examples:
        assert callable(cli.parser().parse_args(example[1:]).function)


def test_the_examples_of_the_readme_are_right():
    text = (Path(cli.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    examples = [line.split("#")[0].split() for line in text.splitlines() if line.startswith("aia ") and "--help" not in line]
    assert len(examples) > 4
    for example in examples:
        assert callable(cli.parser().parse_args(example[1:]).function)


def test_help_and_checking_data_load_no_torch(own, tmp_path):
    for arguments in (["--help"], ["data", "check", "--data", "folder", "--root", str(own), "--size", "16"]):
        code = f"""if True:
            import sys
            from aia_lib.cli import main
            try:
                main({arguments!r})
            except SystemExit:
                pass
            assert not {{"torch", "sklearn", "matplotlib", "pandas"}} & set(sys.modules)
        """
        environment = {**os.environ, "AIA_CACHE": str(tmp_path), "PYTHONPATH": str(Path(cli.__file__).parents[1])}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


def test_the_version(aia):
    from aia_lib import __version__

    assert aia("--version").out == f"aia {__version__}\n"


# --- wrong calls ------------------------------------------------------------------------------------------------------

WRONG = {
    "no command": ("", "COMMAND"),
    "an unknown command": ("frobnicate", "'frobnicate'", "run"),
    "an unknown option": ("run --frobnicate", "--frobnicate"),
    "an unknown action": ("data frobnicate", "'frobnicate'", "check"),
    "an unknown profile": ("run --profile slow", "'slow'", "fast", "book", "full"),
    "no seeds": ("run --seeds 0", "'0'", "0,1,2"),
    "seeds that are none": ("run --seeds x", "'x'", "0,1,2"),
    "negative seeds": ("run --seeds=-1", "'-1'"),
    "a seed twice": ("run --seeds 1,1", "'1,1'"),
    "more seeds than memory": ("run --seeds 99999999999", "1 to 1000"),
    "a seed too large": ("run --seeds 1,99999999999", "'1,99999999999'"),
    "no root": ("run --data celeba", "celeba", "--root"),
    "an empty root": ("run --data folder --root= ", "folder", "--root"),
    "a root without its kind": ("run --root {own}", "{own}", "--data", "folder"),
    "a root that is not there": ("run --data folder --root {own}/nowhere", "{own}/nowhere", "no such folder"),
    "a root that is a file": ("run --data folder --root {own}/labels.csv", "labels.csv", "not a folder"),
    "the root as source": ("run --data {own}", "--root {own}"),
    "an unknown source": ("run --data nosuch --root {own}", "'nosuch'", "vggface2"),
    "another layout": ("run --data celeba --root {own}", "img_align_celeba", "'folder'"),
    "another layout, too": ("run --data folder --root {celeba}", "labels.csv", "'celeba'"),
    "an unknown attribute": ("run --data folder --root {own} --attribute beard", "'beard'", "gender, glasses"),
    "an unknown attribute of CelebA": ("data check --data celeba --root {celeba} --attribute beard", "'beard'", "No_Beard"),
    "a size not divisible by 4": ("run --data folder --root {own} --size 63", "63", "multiple of 4"),
    "no size": ("data check --data folder --root {own} --size 0", "0", "multiple of 4"),
    "a size that is no number": ("run --data folder --root {own} --size big", "'big'"),
    "a negative alpha": ("run --data folder --root {own} --alpha=-1", "alpha", "-1"),
    "an alpha that is NaN": ("run --data folder --root {own} --alpha nan", "alpha", "nan"),
    "a negative beta": ("run --data folder --root {own} --beta=-0.5", "beta", "-0.5"),
    "a beta that is NaN": ("run --data folder --root {own} --beta nan", "beta", "nan"),
    "an infinite beta": ("run --data folder --root {own} --beta inf", "beta", "inf"),
    "a gamma that is no number": ("run --data folder --root {own} --gamma x", "gamma", "'x'"),
    "no images": ("run --data folder --root {own} --limit 0", "limit", "0"),
    "a negative split seed": ("run --data folder --root {own} --split-seed=-1", "seed", "-1"),
    "an unknown device": ("run --data folder --root {own} --device tpu --out {tmp}/out", "'tpu'", "cpu"),
    "a device without numbers": ("run --data folder --root {own} --device meta --out {tmp}/out", "'meta'", "cpu"),
    "people too few to split": ("run --data folder --root {own} --limit 16 --quiet --out {tmp}/out", "Too few people", "raise the limit"),
    "people too few for an audit": ("run --data folder --root {own} --quiet --out {tmp}/out", "Too few people", "10", "Load more people"),
    "an attribute that rendered faces lack": ("data check --root {drawn} --size 32 --attribute Smiling", "'Smiling'", "smiling"),
    "more pixels than were rendered": ("run --root {drawn} --out {tmp}/out", "32 x 32", "aia data render", "--size 64"),
    "nobody to render": ("data render --identities 0 --out {tmp}/out", "identities", "not 0"),
    "one image a person": ("data render --identities 2 --images 1 --out {tmp}/out", "images", "at least 2", "not 1"),
    "a size that is not rendered": ("data render --identities 2 --size 20 --out {tmp}/out", "not 20", "multiple of 8", "32 to 256"),
    "a device that does not render": ("data render --identities 2 --device tpu --out {tmp}/out", "'tpu'", "cpu"),
    "no place to render to": ("data render --identities 2", "--out"),
    "a place of other things": ("data render --identities 2 --out {own}", "{own}", "not empty", "Choose another --out"),
    "out is a file": ("run --data folder --root {own} --out {own}/labels.csv", "--out", "labels.csv", "is a file"),
    "out in a file": ("run --data folder --root {own} --out {own}/labels.csv/runs", "--out", "labels.csv", "is a file"),
    "out holds other things": ("run --data folder --root {own} --out {own}", "--out", "not empty"),
    "an audit's out is a folder": ("audit x:y --data folder --root {own} --out {own}", "--out", "is a folder"),
    "an audit's out in a file": ("audit x:y --data folder --root {own} --out {own}/labels.csv/a.json", "--out", "is a file"),
    "no such saved anonymizer": ("audit {own}/nowhere --data folder --root {own}", "nowhere", "module:object"),
    "a folder without an anonymizer": ("audit {own} --data folder --root {own}", "{own}", "anonymizer.json"),
    "no image": ("attributes {own}/nowhere.png --run {own}", "nowhere.png", "no such image"),
    "a folder as image": ("attributes {own} --run {own}", "{own}", "no such image"),
    "no run": ("attributes {own}/person-00/0.png --run {own}", "{own}", "no finished run", "aia run"),
    "no --run": ("attributes {own}/person-00/0.png", "--run"),
    "a picture that is no PNG": ("attributes {own}/person-00/0.png --run {own} --out a.jpg", "a.jpg", ".png"),
    "a picture over the photograph": (
        "attributes {own}/person-00/0.png --run {own} --out {own}/person-01/../person-00/0.png",
        "--out",
        "overwritten",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_one_line(aia, own, celeba, drawn, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    places = {"own": own, "celeba": celeba, "drawn": drawn, "tmp": tmp_path}
    call, *words = [text.format(**places) for text in WRONG[case]]
    refused(aia(*call.split()), *words)
    assert not list(tmp_path.iterdir()), "a refused call writes nothing"


def test_a_wrong_profile_in_the_environment(aia, own, monkeypatch):
    monkeypatch.setenv("AIA_PROFILE", "slow")
    refused(aia("run", "--data", "folder", "--root", own), "'slow'", "fast, book, full")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(aia, own, tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(aia("run", "--data", "folder", "--root", own, "--out", tmp_path / "out"), str(tmp_path), "permission denied")
    finally:
        tmp_path.chmod(0o700)


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("two\nlines"), "two lines"),
        (OSError(5, "Input/output error", "a/file"), "a/file: Input/output error"),
        (OSError(28, "No space left on device"), "no space left"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "--limit"),
    ],
)
def test_what_the_machine_lacks_is_one_line(aia, own, monkeypatch, error, words):
    monkeypatch.setattr("aia_lib.datasets.summarise", raising(error))
    refused(aia("data", "check", "--data", "folder", "--root", own), words)


def test_a_fault_of_ours_keeps_its_traceback(aia, own, monkeypatch):
    monkeypatch.setattr("aia_lib.datasets.summarise", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        aia("data", "check", "--data", "folder", "--root", own)


def test_a_terminal_without_unicode(own, tmp_path, monkeypatch):
    root = shutil.copytree(own, tmp_path / "own")
    (root / "person-00" / "0.png").rename(root / "person-00" / "é→.png")
    (root / "person-00" / "é→.png").write_bytes(b"")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    cli.main(["data", "check", "--data", "folder", "--root", str(root), "--size", "16", "--quiet"])
    assert b"person-00/??.png" in terminal.buffer.getvalue()


# --- data sets --------------------------------------------------------------------------------------------------------


def lines_of(file: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        (root / file).write_text("\n".join(change((root / file).read_text().split("\n"))))

    return harm


def images_of(count: int, change: Callable[[Path], None]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        for path in sorted(root.glob("person-*/*.png"))[:count]:
            change(path)

    return harm


def save_cmyk(path: Path) -> None:
    path.unlink()
    Image.new("CMYK", (24, 24), (10, 20, 30, 40)).save(path.with_suffix(".jpg"))


def save_animated(path: Path) -> None:
    frames = [Image.new("L", (24, 24), grey) for grey in (0, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def one_image_each(root: Path) -> None:
    for path in root.glob("person-*/1.png"):
        path.unlink()


LABELS = {
    "missing": (lines_of("labels.csv", lambda t: t[:3] + t[4:]), "no line", "person-02"),
    "doubled": (lines_of("labels.csv", lambda t: t[:3] + [t[1]] + t[3:]), "line 4", "first on line 2"),
    "malformed": (lines_of("labels.csv", lambda t: t[:3] + [t[3] + ",x"] + t[4:]), "line 4", "4 fields"),
    "of three values": (lines_of("labels.csv", lambda t: t[:3] + ["person-02,other,1"] + t[4:]), "'gender'", "other"),
    "empty": (lambda root: (root / "labels.csv").write_text(""), "labels.csv", "empty"),
    "gone": (lambda root: (root / "labels.csv").unlink(), "labels.csv"),
    "of one class": (lines_of("labels.csv", lambda t: [line.replace("female", "male") for line in t]), "one class", "'gender'"),
    "not UTF-8": (lambda root: (root / "labels.csv").write_bytes(b"identity,gender\n\xff,male\n"), "line 2", "UTF-8"),
}
"""Label files that are refused."""

IMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "1 x 1": (lambda path: Image.new("L", (1, 1)).save(path), "smaller"),
    "no images": (lambda path: path.write_text("hello"), "not images"),
}
"""Images that are skipped."""

PECULIAR = {
    "CMYK": (save_cmyk, "CMYK (read through RGB): 3"),
    "16-bit": (lambda path: Image.fromarray(np.full((24, 24), 40000, np.uint16)).save(path), "16 bits a pixel (scaled to 8): 3"),
    "animated": (save_animated, "several frames (the first is read): 3"),
}
"""Images that are read, with a note."""


@pytest.fixture
def checked(aia, own, tmp_path) -> Callable[[Callable[[Path], object]], SimpleNamespace]:
    """checked(harm) harms a copy of the folder and lets `aia data check` look at it."""

    def check(harm: Callable[[Path], object]) -> SimpleNamespace:
        root = shutil.copytree(own, tmp_path / "own")
        harm(root)
        return aia("data", "check", "--data", "folder", "--root", root, "--size", 16, "--quiet")

    return check


@pytest.mark.parametrize("case", LABELS)
def test_a_wrong_label_file_is_refused(checked, case):
    harm, *words = LABELS[case]
    refused(checked(harm), *words)


def test_an_extra_line_is_noted(checked):
    result = checked(lines_of("labels.csv", lambda t: [*t[:-1], "nobody,male,1", ""]))
    assert result.status == 0 and "without images here: 1" in result.out


@pytest.mark.parametrize("case", IMAGES)
def test_unusable_images_are_skipped_and_counted_and_refused_above_a_twentieth(aia, own, checked, tmp_path, case):
    change, word = IMAGES[case]
    result = checked(images_of(3, change))
    assert result.status == 0 and f"{word}" in result.out and ": 3 (person-00/0.png" in result.out
    images_of(5, change)(tmp_path / "own")
    result = aia("data", "check", "--data", "folder", "--root", tmp_path / "own", "--size", 16, "--quiet")
    refused(result, word, "person-00/0.png", "5%", "Mend or remove")


@pytest.mark.parametrize("case", PECULIAR)
def test_peculiar_images_are_read_with_a_note(checked, case):
    change, words = PECULIAR[case]
    result = checked(images_of(3, change))
    assert result.status == 0 and words in result.out


def test_people_with_a_single_image_each(checked):
    result = checked(one_image_each)
    refused(result, "single image", "verification needs two")
    assert "40 images of 40 people" in result.out  # what was found out is said all the same


def test_people_too_few_to_split(checked):
    refused(checked(lambda root: [shutil.rmtree(path) for path in root.glob("person-[123]*")]), "Too few people to split")


def test_check_and_prepare_say_what_is_there(aia, own, tmp_path, monkeypatch):
    monkeypatch.setenv("AIA_CACHE", str(tmp_path))
    for harmless in ([], ["--attribute", "glasses", "--limit", "80", "--split-seed", "3"]):
        result = aia("data", "check", "--data", "folder", "--root", own, "--size", 16, "--quiet", *harmless)
        assert result.status == 0 and not result.err
        assert "80 images of 40 people" in result.out and "gender" in result.out and "glasses" in result.out
    result = aia("data", "prepare", "--data", "folder", "--root", own, "--size", 20)
    assert result.status == 0 and "ready: Faces(80 images of 40 people, 20 x 20" in result.out
    assert "Decoding folder" in result.err  # the progress bar
    assert [path.name for path in tmp_path.glob("folder-20-*")]


def test_rendered_faces_are_checked_and_prepared(aia, drawn, monkeypatch):
    for source in (["--data", "embedded"], []):
        result = aia("data", "check", *source, "--root", drawn, "--size", 32)
        assert result.status == 0 and not result.err
        assert "embedded: 120 images of 60 people" in result.out and "licence: CC BY 4.0" in result.out and "mouth_open" in result.out
    monkeypatch.setattr("aia_lib.datasets.embedded.SHIPPED", drawn)
    result = aia("data", "prepare", "--size", 16)
    assert result.status == 0 and "averaged to 16 x 16" in result.out and "ready: Faces(120 images of 60 people, 16 x 16" in result.out


def test_a_copy_without_the_shipped_faces(aia, tmp_path, monkeypatch):
    monkeypatch.setattr("aia_lib.datasets.embedded.SHIPPED", tmp_path)
    refused(aia("run", "--out", tmp_path / "out"), "comes without its embedded faces", "aia data render --identities 1000")


def test_a_download_that_cannot_work_says_why(aia, tmp_path, monkeypatch):
    monkeypatch.setattr("aia_lib.datasets.download_celeba", raising(UserError("the drive answered with its quota page")))
    refused(aia("data", "download", "celeba", "--root", tmp_path), "quota")
    refused(aia("data", "download", "lfw", "--root", tmp_path), "'lfw'", "celeba")


# --- aia audit --------------------------------------------------------------------------------------------------------

MODULE = """
import os, signal
import torch.nn.functional as F

def pixelate(images): return F.avg_pool2d(images, 4).flatten(1)
def numpy_array(images): return pixelate(images).numpy()
def wrong_shape(images): return F.avg_pool2d(images, 4)
def lost_rows(images): return images[:3].flatten(1)
def nan(images): return images.flatten(1) * float("nan")
def constant(images): return images.flatten(1) * 0 + 1
def nothing(images): return None
def failing(images): raise ValueError("no such thing\\nin two lines")
def killed(images): os.kill(os.getpid(), signal.SIGTERM)

class Pixelate:
    def __call__(self, images): return pixelate(images)
class Demanding:
    def __init__(self, strength): pass
class Idle:
    pass

inside = Pixelate
number = 3
"""


@pytest.fixture
def audit(aia, celeba, tmp_path, monkeypatch) -> Iterator[Callable[..., SimpleNamespace]]:
    """audit(name, …) runs `aia audit` in a folder with my_method.py and other modules that cannot be imported."""
    (tmp_path / "my_method.py").write_text(MODULE)
    (tmp_path / "my_mistake.py").write_text("def f(:\n")
    (tmp_path / "my_failure.py").write_text('raise RuntimeError("no\\nGPU")\n')
    (tmp_path / "my_end.py").write_text('import sys\nsys.exit("bye")\n')
    (tmp_path / "my_need.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def call(name: object, *more: object) -> SimpleNamespace:
        return aia("audit", name, "--data", "celeba", "--root", celeba, "--profile", "fast", "--quiet", *more)

    yield call
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["my_method:pixelate", "my_method.py:numpy_array", "my_method:Pixelate", "my_method:inside"])
def test_a_users_anonymizer_is_audited(audit, tmp_path, name):
    result = audit(name, "--out", "new/audit.json", "--seeds", "3,5" if name.endswith("pixelate") else "1")
    assert result.status == 0 and not result.err
    assert "RETRAINED REGIME" in result.out and "not measured: no co-trained networks" in result.out
    report = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert report["paper"] is None and 0 <= report["retrained"]["leak_auc"] <= 1
    assert [seed["seed"] for seed in report["seeds"]] == ([3, 5] if name.endswith("pixelate") else [0])


def test_attackers_learn_from_another_data_set(audit, celeba, own):
    """The same source is refused: its people may be those who are tested."""
    result = audit("my_method:pixelate", "--elsewhere", f"folder:{own}")
    assert result.status == 0 and "attacker with other people" in result.out, result.err
    bad = (("atlantis:here", "atlantis"), ("lfw", "lfw"), ("folder:no/folder", "no/folder"), (f"celeba:{celeba}", "as faces do"))
    for elsewhere, words in bad:
        result = audit("my_method:pixelate", "--elsewhere", elsewhere)
        assert result.status == 2 and words in result.err and "Traceback" not in result.err


BAD_ANONYMIZERS = {
    "my_method:wrong_shape": ("wrong_shape", "(N, k)", "(90, 1, 4, 4)"),
    "my_method:lost_rows": ("lost_rows", "one row for each", "(3, 256)"),
    "my_method:nan": ("nan", "NaN"),
    "my_method:constant": ("constant", "same representation"),
    "my_method:nothing": ("nothing", "NoneType"),
    "my_method:failing": ("failing", "ValueError", "no such thing"),
    "my_method:nowhere": ("my_method", "nowhere", "my_method.py"),
    "my_method:number": ("my_method:number", "int"),
    "my_method:Idle": ("my_method:Idle", "Idle"),
    "my_method:Demanding": ("Demanding", "strength"),
    "my_method:": ("my_method", "module:object"),
    "my_method": ("my_method", "module:object"),
    "my_method.py": ("my_method", "module:object"),
    "my_absence:f": ("my_absence", "my_absence.py"),
    "my_need:f": ("my_need", "a_module_that_is_nowhere", "Install it"),
    "my_mistake:f": ("my_mistake", "SyntaxError", "line 1"),
    "my_failure:f": ("my_failure", "RuntimeError", "no GPU"),
    "my_end:f": ("my_end", "SystemExit", "bye"),
}


@pytest.mark.parametrize("name", BAD_ANONYMIZERS)
def test_a_bad_anonymizer_is_one_line(audit, name):
    refused(audit(name), *BAD_ANONYMIZERS[name])


def test_a_polite_kill_is_like_ctrl_c(audit):
    before = signal.getsignal(signal.SIGTERM)
    result = audit("my_method:killed")
    assert result.status == 130 and result.err == "aia: stopped.\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_saved_anonymizer_is_audited_in_both_regimes(audit, finished):
    result = audit(finished / "seed-0" / "AIA", "--size", 16)
    assert result.status == 0 and "PAPER REGIME" in result.out and "no co-trained networks" not in result.out
    refused(audit(finished), "whole run", "seed-0/AIA")
    refused(audit(finished / "seed-0" / "AIA", "--size", 32), "16, 16", "size=16")


def test_a_saved_defence_is_audited(audit, tmp_path):
    from aia_lib.defences import HardenedAIA

    hardened = HardenedAIA(k=8, width=4, epochs=1, min_steps=4, batch_size=16, decoder_epochs=1, adversary_steps=1)
    hardened.fit(draw_faces(16, 4, 16, 0), progress=False).save(tmp_path / "hardened")
    result = audit("hardened", "--out", "audit.json")
    assert result.status == 0 and not result.err and "RETRAINED REGIME" in result.out and "HardenedAIA" in result.out
    report = json.loads((tmp_path / "audit.json").read_text())
    assert 0 <= report["retrained"]["leak_auc"] <= 1
    (tmp_path / "hardened" / "base" / "anonymizer.json").unlink()
    refused(audit("hardened"), "base", "anonymizer.json is missing")


# --- aia run ----------------------------------------------------------------------------------------------------------


def test_a_run_writes_all_that_it_promises(finished):
    report = json.loads((finished / "report.json").read_text())
    assert list(report["methods"]) == ["Original", "Random", "AIA\\T", "AIA"]
    assert report["settings"]["size"] == 16 and report["provenance"]["seeds"] == [0]
    assert report["provenance"]["command"].startswith("aia run --data celeba --root ")
    assert "AIA" in (finished / "table.md").read_text(encoding="utf-8")
    pictures = sorted(path.name for path in (finished / "figures").iterdir())
    assert len(pictures) > 6 and all(name.endswith(".png") for name in pictures)
    page = (finished / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in pictures)


def test_a_finished_run_is_kept(aia, finished, celeba, own):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    refused(aia(*run_arguments(celeba, finished)), "already holds a run", "--resume")
    refused(aia(*run_arguments(celeba, finished), "--resume", "--alpha", 1), "finetune.alpha was 0.5, is 1.0", "another --out")
    refused(aia(*run_arguments(celeba, finished), "--resume", "--limit", 299), "other faces", "--limit")
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file's content; a new file takes its place, since others link to the old one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))


def other_alpha(content: bytes) -> bytes:
    state = json.loads(content)
    state["settings"]["alpha"] = 0.6
    return json.dumps(signed(state)).encode()


TRUNCATED: Callable[[bytes], bytes] = lambda content: content[: len(content) // 2]  # noqa: E731
TAMPERED: Callable[[bytes], bytes] = lambda content: content[:-1] + bytes([content[-1] ^ 1])  # noqa: E731
DAMAGED = {
    "a truncated anonymizer": ("AIA/*.safetensors", TRUNCATED, "AIA/anonymizer.json", "SHA-256"),
    "an anonymizer that was tampered with": ("AIA/*.safetensors", TAMPERED, "AIA/anonymizer.json", "SHA-256"),
    "half of an index": ("AIA/*.json", TRUNCATED, "AIA/anonymizer.json", "damaged"),
    "an index that is none": ("AIA/*.json", lambda content: b"{}", "AIA/anonymizer.json", "damaged"),
    "a truncated audit": ("audit-AIA.npz", TRUNCATED, "audit-AIA.npz", "Remove it"),
    "a truncated stage": ("checkpoints/finetune-????????????????.safetensors", TRUNCATED, "finetune.json", "SHA-256"),
    "a stage that was tampered with": ("checkpoints/finetune-????????????????.safetensors", TAMPERED, "finetune.json", "SHA-256"),
    "a stage of other settings": ("checkpoints/finetune.json", other_alpha, "finetune.json", "alpha was 0.6, is 0.5"),
    "run.json that is none": ("../run.json", lambda content: b"[1]", "run.json", "damaged"),
    "run.json of other things": ("../run.json", lambda content: b'{"run": 1}', "run.json", "damaged"),
}


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run, of links: what is changed there must be replaced. Its report is not written yet."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, copy_function=os.link)
    (folder / "report.json").unlink()
    return folder


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_checkpoint_is_named_with_the_way_out(aia, copy, celeba, case):
    pattern, change, *words = DAMAGED[case]
    (path,) = (copy / "seed-0").glob(pattern)
    rewrite(path, change)
    if "checkpoints" in pattern:
        shutil.rmtree(copy / "seed-0" / "AIA")  # so that the stage is needed again
    before = sorted(copy.rglob("*"))
    refused(aia(*run_arguments(celeba, copy), "--resume"), *words)
    assert sorted(copy.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
def test_a_run_survives_a_full_disk_and_ctrl_c_and_ends_as_if_undisturbed(aia, finished, celeba, tmp_path):
    import resource

    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        refused(aia(*run_arguments(celeba, out)), "no space left", str(out), "is kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    run = process(*run_arguments(celeba, out), "--resume", bufsize=1)
    for line in run.stdout:
        if line.startswith("seed 0: auditing Original"):
            run.send_signal(signal.SIGINT)
            break
    _, error = run.communicate(timeout=1200)
    assert run.returncode == 130 and error.count("\n") == 1
    assert error.startswith("aia: stopped; what was finished is kept. Go on with: aia run ") and error.endswith(" --resume\n")
    assert (out / "seed-0" / "Original" / "anonymizer.json").exists() and not (out / "report.json").exists()
    refused(aia("attributes", finished / "figures" / "roc.png", "--run", out), "no such image")
    refused(aia("attributes", finished / "figures" / "faces.png", "--run", out), "not finished", "--resume")

    assert aia(*run_arguments(celeba, out), "--resume").status == 0
    reports = [json.loads((folder / "report.json").read_text()) for folder in (finished, out)]
    assert reports[0]["methods"] == reports[1]["methods"]
    weights = [sorted(path.name for path in folder.glob("seed-0/*/*.safetensors")) for folder in (finished, out)]  # names are hashes
    assert weights[0] == weights[1] and len(weights[0]) > 8
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error(celeba):
    run = process("data", "check", "--data", "celeba", "--root", celeba, "--size", 16, "--quiet")
    run.stdout.close()  # as `head` does
    assert (run.wait(timeout=120), run.stderr.read()) == (141, "")


# --- aia attributes ---------------------------------------------------------------------------------------------------


def test_attributes_are_told_in_words_and_in_a_picture(aia, finished, celeba, tmp_path):
    images = sorted((celeba / "celeba" / "img_align_celeba").iterdir())[:9]
    result = aia("attributes", *images, "--run", finished, "--only", "eyeglasses,Gender,Eyeglasses", "--out", tmp_path / "new" / "a.png")
    assert result.status == 0 and not result.err
    blocks = result.out.strip().split("\n\n")
    assert blocks[-1] == f"picture: {tmp_path / 'new' / 'a.png'} (the first 8 faces)"
    assert len(blocks) == 2 * len(images) + 1
    name, before, after = blocks[0].split("\n")
    assert name == str(images[0]) and before.startswith("  before  ") and after.startswith("  after   ")
    header, glasses, gender = (line.split() for line in blocks[1].split("\n"))
    assert header[:3] == ["attribute", "before", "after"]
    assert glasses[0] == "Eyeglasses" and glasses[1] in ("yes", "no") and 50 <= int(glasses[2]) <= 100
    assert gender[:3] == ["gender", "as", "labelled"] and gender[3] in ("male", "female")
    with Image.open(tmp_path / "new" / "a.png") as picture:
        assert picture.info["Description"].startswith("8 faces") and "male (as labelled)" in picture.info["Description"]


def test_attributes_shown_are_those_that_can_be_read(aia, finished, celeba, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (image, *_) = sorted((celeba / "celeba" / "img_align_celeba").iterdir())
    result = aia("attributes", image, "--run", finished)
    assert result.status == 0 and "gender as labelled" in result.out and "--only names others" in result.out
    assert "  Male " not in result.out  # gender already says it
    assert (tmp_path / "attributes.png").exists()


def test_a_face_is_told_as_on_the_poster():
    names = ["gender", "Smiling", "Eyeglasses", "Bald", "Wearing_Hat"]
    told = poster._poster(names, [0.2, 0.9, 0.1, 0.55, 0.99], [0.9, 0.9, 0.9, 0.9, 0.52])
    assert told == "gender as labelled: female; has Smiling; lacks Eyeglasses; not sure: Bald, Wearing Hat"


def test_what_attributes_cannot_use_is_one_line(aia, finished, own, tmp_path):
    empty, text, animated = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "animated.png"
    empty.touch()
    text.write_text("hello")
    save_animated(animated)
    call = ("--run", finished, "--out", tmp_path / "a.png")
    refused(aia("attributes", own / "person-00" / "0.png", empty, *call), "empty.png", "empty")
    refused(aia("attributes", text, *call), "text.png", "not an image")
    for names in ("beard", ","):
        refused(aia("attributes", own / "person-00" / "0.png", *call, "--only", names), repr(names), "No_Beard")
    assert not (tmp_path / "a.png").exists()
    result = aia("attributes", animated, *call)
    assert result.status == 0 and f"note: images that have several frames (the first is read): {animated}" in result.out


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("seed-0/readers/after-*.safetensors", TRUNCATED, ("after.json", "SHA-256")),
        ("seed-0/readers/before.json", None, ("before.json is missing", "aia run")),
        ("seed-0/AIA/*.safetensors", TAMPERED, ("anonymizer.json", "SHA-256")),
        ("report.json", TRUNCATED, ("report.json", "JSON")),
        ("report.json", lambda content: content.replace(b'"size": 16', b'"side": 16'), ("report.json", "aia run")),
    ],
)
def test_attributes_of_a_damaged_run(aia, finished, copy, own, file, change, words):
    os.link(finished / "report.json", copy / "report.json")
    (path,) = copy.glob(file)
    if change is None:
        path.unlink()
    else:
        rewrite(path, change)
    refused(aia("attributes", own / "person-00" / "0.png", "--run", copy, "--out", copy / "a.png"), *words)
