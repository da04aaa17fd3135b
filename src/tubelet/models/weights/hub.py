"""Fetch weights from the Hugging Face hub or an address, or say exactly which file to put where."""

import os
import sys
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tubelet.errors import CheckpointError

__all__ = ["check_connection", "fetch_file", "fetch_first", "place_of"]

_HUB = "https://huggingface.co"
_PATIENCE_S = 3.0


def place_of(repo: str, revision: str | None = None) -> Path:
    """Return the folder where the files of a hub repository can be put by hand.

    It lies in `$TUBELET_HOME`, or else in `~/.cache/tubelet`.
    """
    home = os.environ.get("TUBELET_HOME") or Path.home() / ".cache" / "tubelet"
    name = repo.replace("/", "--") + (f"@{revision.replace('/', '--')}" if revision else "")
    return Path(home) / "weights" / name


def check_connection(source: str) -> None:
    """Find out within seconds whether weights on the hub can be had: they lie here, or the hub can be reached.

    Raises:
        CheckpointError: neither; says why.
    """
    from huggingface_hub import try_to_load_from_cache

    repo = source.removeprefix("hf://")
    if place_of(repo).is_dir() or isinstance(try_to_load_from_cache(repo, "config.json"), str):
        return
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise CheckpointError("they are not on this machine, and HF_HUB_OFFLINE is set.")
    hub = os.environ.get("HF_ENDPOINT") or _HUB
    try:
        urlopen(Request(hub, method="HEAD"), timeout=_PATIENCE_S).close()
    except HTTPError:
        pass  # it answers
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(f"they are not on this machine, and {hub} cannot be reached ({reason}).") from None


def fetch_file(url: str) -> Path:
    """Fetch a single file into our own cache, unless it lies there.

    Raises:
        CheckpointError: no connection, or no such file; says where to put it.
    """
    import torch

    path = _place_file(url)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
    except (OSError, ValueError, HTTPException) as error:
        raise CheckpointError(
            f"cannot fetch {url!r} - {type(error).__name__}: {error} - download it by any other way and put it at "
            f"{str(path)!r}."
        ) from None
    return path


def _place_file(url: str) -> Path:
    """Return where a file of an address is kept: addresses that differ in anything have different places.

    Raises:
        CheckpointError: an address that names no file.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        address = urlsplit("")
    parts = [part for part in address.path.split("/") if part]
    if not parts or not address.netloc or {".", ".."} & {address.netloc, *parts} or "\0" in url:
        raise CheckpointError(
            f"cannot fetch {url!r} - it names no file - give an address like https://host/path/file.pt."
        )
    if address.query:
        parts.append(f"{parts.pop()}-{sha256(address.query.encode()).hexdigest()[:8]}")
    return place_of(address.netloc).joinpath(*parts)


def fetch_first(repo: str, revision: str | None, names: tuple[str, ...]) -> Path | None:
    """Fetch the first of several files that a repository on the hub has, into the hub's own cache.

    Returns:
        Where it lies; None where the repository has none of them.

    Raises:
        CheckpointError: no connection and none of them in the cache, no such repository, no right to read it; says
            which file to put where.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    refusal: CheckpointError | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, revision=revision))
        except LocalEntryNotFoundError as error:  # the hub cannot be asked, and nobody fetched it before
            refusal = refusal or _explain_offline(repo, revision, name, error)
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise _explain_offline(repo, revision, name, error) from None
    if refusal is not None:
        raise refusal
    return None


def _explain_offline(repo: str, revision: str | None, name: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:200]
    url = f"{os.environ.get('HF_ENDPOINT', _HUB)}/{repo}/resolve/{revision or 'main'}"
    return CheckpointError(
        f"cannot fetch {name} of {repo!r} - {type(error).__name__}: {reason} - download {url}/config.json, "
        f"preprocessor_config.json and model.safetensors beside it by any other way and put them into "
        f"{str(place_of(repo, revision))!r}, or give a folder that holds them."
    )
