"""Fetching CelebA, as an explicit command only. Its drive often answers with a quota page, so each failure names the other ways."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..machine.files import UserError, explain_os_errors, write_text
from .common import check_zip

HUB_NAME, HUB_CONFIG = "flwrlabs/celeba", "img_align+identity+attr"

_ARCHIVE = "img_align_celeba.zip"
_FILES = (_ARCHIVE, "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt")

_MEMBER = re.compile(r"img_align_celeba/\d{6}\.jpg")
_MAX_MEMBER = 8 << 20  # bytes; CelebA's images are below 40 kB


class HubRow(NamedTuple):
    """One image of the hub's mirror: its file name or None, its bytes, the person, 40 attributes, the part (0 train, 1 valid, 2 test)."""

    name: str | None
    content: bytes
    identity: int
    attributes: dict[str, bool]
    part: int


def download_celeba(root: str | os.PathLike, source: str = "torchvision", progress: bool = True) -> Path:
    """Download CelebA into `root`/celeba in its original layout; what is there already is not fetched again.

    Args:
        root: the folder for the data set, made if needed.
        source: "torchvision" (the authors' drive, through torchvision and gdown) or "hub" (the mirror flwrlabs/celeba, through the package
            datasets).
        progress: show progress.

    Returns:
        `root`/celeba.

    Raises:
        UserError: a package is missing, there is no network, the drive answers with its quota page, the archive is damaged or unsafe, or
            the disk is full. What was fetched is kept, and the same command goes on from there.
    """
    if source not in ("torchvision", "hub"):
        raise UserError(f"CelebA can be downloaded from 'torchvision' or 'hub', not {source!r}.")
    base = Path(root).expanduser() / "celeba"
    with explain_os_errors(base):
        base.mkdir(parents=True, exist_ok=True)
        if source == "hub":
            _write_rows(base, _hub_rows, progress)
        else:
            _from_drive(base)
    return base


def _failed(what: str, error: Exception, base: Path, source: str) -> UserError:
    """The error for a download that failed, with the other ways; what is not the network's fault, a full disk say, is raised as it is."""
    if isinstance(error, UserError | PermissionError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise error
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(f"{what} ({reason}). {_other_ways(base, source)}")


def _other_ways(base: Path, source: str) -> str:
    other = "hub" if source == "torchvision" else "torchvision"
    return (
        f"Run it again later (it goes on where it stopped), take the other source ({other!r}), or fetch {', '.join(_FILES)} "
        f"with a browser from the CelebA page and unpack the archive in {base}."
    )


def _from_drive(base: Path) -> None:
    try:
        from torchvision.datasets import CelebA
        from torchvision.datasets.utils import download_file_from_google_drive
    except ImportError as error:
        raise UserError(f"This download needs torchvision (pip install torchvision gdown). {_other_ways(base, 'torchvision')}") from error
    images = base / "img_align_celeba"
    known = {name: (file_id, md5) for file_id, md5, name in CelebA.file_list}
    for name in _FILES[1:] if images.is_dir() else _FILES:
        file_id, md5 = known[name]
        try:
            download_file_from_google_drive(file_id, base, name, md5)
        except Exception as error:  # gdown, requests and torchvision each have their own
            failed = _failed(f"{name} could not be downloaded from CelebA's drive", error, base, "torchvision")
            if (base / name).exists() and name == _ARCHIVE:
                check_zip(base / name)
            raise failed from error
        if name == _ARCHIVE:
            unpack_images(base / name, images)


def unpack_images(archive: Path, folder: Path) -> None:
    """Unpack CelebA's archive of images into `folder`, which appears only when it is whole.

    A `UserError` where `archive` is a quota page or damaged, or holds anything but small files img_align_celeba/NNNNNN.jpg.
    """
    check_zip(archive)
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        with explain_os_errors(folder), zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not member.is_dir()]
            for member in members:
                link = stat.S_ISLNK(member.external_attr >> 16)
                if link or not _MEMBER.fullmatch(member.filename) or member.file_size > _MAX_MEMBER:
                    raise UserError(
                        f"{archive} holds {member.filename!r}, which is no image of CelebA. Delete the archive and fetch it again."
                    )
            if not members:
                raise UserError(f"{archive} holds no images. Delete it and fetch it again.")
            shutil.rmtree(temporary, ignore_errors=True)
            content.extractall(temporary, members)
            os.rename(temporary / "img_align_celeba", folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise UserError(f"{archive} is damaged ({error}). Delete it and fetch it again.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _hub_rows() -> Iterator[HubRow]:
    """The mirror's images in its order. The hub's client keeps what it fetched, so that a second call goes on where the first stopped."""
    try:
        from datasets import Image, load_dataset
    except ImportError as error:
        raise UserError("This download needs the package datasets: pip install datasets.") from error
    for number, part in enumerate(("train", "valid", "test")):
        for row in load_dataset(HUB_NAME, HUB_CONFIG, split=part).cast_column("image", Image(decode=False)):
            image, person = row.pop("image"), row.pop("celeb_id")
            yield HubRow(image.get("path"), image["bytes"], int(person), {name: bool(value) for name, value in row.items()}, number)


def _write_rows(base: Path, all_rows: Callable[[], Iterable[HubRow]], progress: bool = True) -> None:
    """Write the hub's images and, at the end, the label files in the original layout; images that are whole already stay.

    The images keep their bytes: where the mirror stores PNG, they and their names in the label files end in .png.
    """
    images = base / "img_align_celeba"
    if (base / "list_attr_celeba.txt").exists() and (base / "identity_CelebA.txt").exists() and images.is_dir():
        return
    images.mkdir(exist_ok=True)
    rows: dict[str, HubRow] = {}
    try:
        for number, row in enumerate(tqdm(all_rows(), desc="CelebA", unit="image", disable=not progress), start=1):
            stem = Path(row.name or "").stem
            stem = stem if re.fullmatch(r"\d{6}", stem) else f"{number:06d}"
            path = images / (stem + (".png" if row.content.startswith(b"\x89PNG") else ".jpg"))
            if not path.exists() or path.stat().st_size != len(row.content):
                path.write_bytes(row.content)
            rows[path.name] = row._replace(content=b"")
    except Exception as error:  # the hub's client has many
        raise _failed("CelebA could not be downloaded from the hub's mirror", error, base, "hub") from error
    if not rows:
        raise UserError(f"The hub's mirror of CelebA sent no images. {_other_ways(base, 'hub')}")
    lines = sorted(rows.items())
    names = list(lines[0][1].attributes)
    signs = (f"{name} {' '.join('1' if row.attributes[attribute] else '-1' for attribute in names)}\n" for name, row in lines)
    write_text(base / "list_eval_partition.txt", "".join(f"{name} {row.part}\n" for name, row in lines))
    write_text(base / "identity_CelebA.txt", "".join(f"{name} {row.identity}\n" for name, row in lines))
    write_text(base / "list_attr_celeba.txt", f"{len(lines)}\n{' '.join(names)}\n{''.join(signs)}")
