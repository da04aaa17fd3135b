"""Publish a trained model on the Hugging Face hub, with a card that says what is known about it.

    pack   model.safetensors   config.json   calibration.safetensors   README.md      from the model folder, and
           report.json   report.html                                                  from its run, where there are some
    push   all of them in one commit: the repository holds the old model or the new one, never a part

`tubelet.load("hf://owner/repo")` reads such a repository.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.errors import CheckpointError, ConfigError
from tubelet.model_folder import CALIBRATION_NAME, CONFIG_NAME, WEIGHTS_NAME
from tubelet.models.weights.source import find_weights
from tubelet.prediction.load import find_model, find_remote
from tubelet.prediction.model_card import read_background, write_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["REPORTS", "Package", "pack", "push"]

CARD_NAME = "README.md"
REPORTS = ("report.json", "report.html")
"""What an evaluation left in a run; they name clips, and the page shows some."""
_OWN_NAMES = (WEIGHTS_NAME, CONFIG_NAME, CALIBRATION_NAME, CARD_NAME, *REPORTS)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class Package:
    """Hold what is published of a model."""

    repo: str
    """`owner/name` on the hub."""
    contents: Mapping[str, Path | bytes]
    """By name: the file, or what is in it."""

    def list_sizes(self) -> dict[str, int]:
        """List the files with their bytes."""
        return {
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in self.contents.items()
        }

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write into a folder exactly what would be uploaded.

        Args:
            folder: takes the place of an earlier package.

        Raises:
            ConfigError: the folder holds something else.
        """
        files.check_replaceable(folder, _OWN_NAMES)
        with files.replace_folder(folder) as temporary:
            for name, content in self.contents.items():
                if isinstance(content, Path):
                    shutil.copyfile(content, temporary / name)
                else:
                    (temporary / name).write_bytes(content)


def pack(
    source: str | os.PathLike[str],
    repo: str,
    *,
    license: str | None = None,  # noqa: A002 - the hub's word
    report: bool = True,
) -> Package:
    """Collect what is published of a model; every byte of the model is checked first.

    Args:
        source: a run folder, the name of a run under `runs/`, or a model folder.
        repo: `owner/name` on the hub, with or without `hf://`.
        license: of the weights, as the hub calls it, such as `apache-2.0`; None states none.
        report: take report.json and report.html of the run along, and their figures into the card.

    Raises:
        ConfigError: a name that the hub does not take, or a source that is not ours to publish.
        CheckpointError: no such model, or a damaged one.
    """
    repo = repo.removeprefix("hf://")
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or len(repo) > 96:
        raise ConfigError(
            f"cannot publish as {repo!r} - a repository is owner/name, of letters, digits, '-', '_' and '.' - give "
            "such a name."
        )
    folder = _find_folder(source)
    classifier = Classifier.read(folder)
    run = folder.parent if (folder.parent / "config.yaml").exists() else None
    background = read_background(folder, run, with_report=report)
    contents: dict[str, Path | bytes] = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    contents[CONFIG_NAME] = folder / CONFIG_NAME
    contents[CARD_NAME] = write_card(classifier, repo, background, license=license).encode()
    if run is not None and background.report is not None:
        contents |= {name: run / name for name in REPORTS if (run / name).exists()}
    return Package(repo, contents)


def _find_folder(source: str | os.PathLike[str]) -> Path:
    remote = find_remote(source)
    if remote is not None:
        raise ConfigError(
            f"cannot publish {os.fspath(source)!r} - it is the name of something published already, and no folder lies "
            "there - give a run folder or a model folder."
        )
    folder = find_model(source)
    if (folder / CONFIG_NAME).exists() and find_weights(folder).is_transformers:
        raise ConfigError(
            f"cannot publish {os.fspath(source)!r} - it is a folder of transformers, which has its own way to the hub "
            "- give a run folder or a model folder of tubelet."
        )
    return folder


def push(package: Package, *, private: bool = False) -> str:
    """Upload a package to the Hugging Face hub in one commit, and make the repository where there is none.

    What an earlier push left there and this one does not have, such as the report of another model, is removed; other
    files stay. The token is that of the hub's own tools: HF_TOKEN, or what `hf auth login` stored.

    Args:
        package: what to upload.
        private: make a repository that only its owner sees; one that is there already must be private.

    Returns:
        The address of the repository.

    Raises:
        CheckpointError: no token, no right, or no connection; says what to do. The files here are as they were.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise CheckpointError(
            f"cannot push to {package.repo!r} - this machine has no token of the Hugging Face hub - run 'hf auth "
            f"login', or set HF_TOKEN to a token with the right to write, from {HfApi().endpoint}/settings/tokens."
        )
    try:
        return _upload(HfApi(), package, private=private)
    except CheckpointError:
        raise
    except Exception as error:
        raise _explain_failure(package.repo, error) from error


def _upload(api: "HfApi", package: Package, *, private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    url = api.create_repo(package.repo, private=private or None, exist_ok=True)
    there = api.model_info(package.repo)
    if private and not there.private:  # the hub leaves a repository that exists as public as it was
        raise CheckpointError(
            f"cannot push to {package.repo!r} as private - the repository exists and is public - make it private in "
            "its settings on the hub, or choose another name; nothing was uploaded."
        )
    stale = {entry.rfilename for entry in there.siblings or ()} & set(_OWN_NAMES) - package.contents.keys()
    additions = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in package.contents.items()
    ]
    deletions = [CommitOperationDelete(path_in_repo=name) for name in sorted(stale)]
    api.create_commit(
        package.repo, [*additions, *deletions], commit_message=f"Upload a model with tubelet {version('tubelet')}"
    )
    return str(url)


def _explain_failure(repo: str, error: Exception) -> CheckpointError:
    """Say what the hub, or the way to it, refused."""
    status = next((found for cause in (error, error.__cause__) if (found := _read_status(cause)) is not None), None)
    advice = {
        401: "the token is not valid there: make another with the right to write, run 'hf auth login' or set HF_TOKEN",
        403: "the token may not write there: take one with the right to write, or a repository of your own",
        None: "check the connection, and push again",
    }.get(status, "push again later" if status is not None and status >= 500 else "mend what it names, and push again")
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(
        f"cannot push to {repo!r} - {type(error).__name__}: {reason} - {advice}. The hub takes all files or none, and "
        "those here are as they were."
    )


def _read_status(error: BaseException | None) -> int | None:
    """Read the status that the hub answered with; None where it did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None)
