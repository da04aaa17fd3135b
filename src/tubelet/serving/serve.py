"""Serve models over HTTP, with a page."""

import os
from collections.abc import Callable, Sequence
from pathlib import PurePath

from tubelet.errors import MissingExtra
from tubelet.prediction.load import load
from tubelet.serving.options import ServingOptions

__all__ = ["TOKEN_VARIABLE", "serve"]

TOKEN_VARIABLE = "TUBELET_TOKEN"


def serve(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    insecure: bool = False,
    device: str = "auto",
    options: ServingOptions | None = None,
    on_start: Callable[[str], None] = lambda _: None,
) -> None:
    """Answer over HTTP what is in the videos that come, until SIGTERM or Ctrl-C; what is in work then is finished.

    Uploads are decoded in other processes, which have no secrets and may die. Nothing that a client says names a file,
    an address or a model that was not given here.

    Args:
        models: what `load` takes; clients know them by the last part of their names.
        host: address to listen at; one that other machines can reach needs a token.
        port: number; 0 takes any that is free.
        token: what clients must show, 16 characters or more; without it that of the environment, `TUBELET_TOKEN`.
        insecure: take no token although other machines can reach the address.
        device: auto, cpu, cuda, cuda:1 or mps.
        options: how much is taken on at a time, and for how long.
        on_start: told the address once the server listens.

    Raises:
        ConfigError: no model, one of features, or an address that others can reach without a token.
        CheckpointError: a model that cannot be loaded.
        MissingExtra: `pip install 'tubelet[serve]'` was not run.
    """
    try:
        from tubelet.serving.app import make_app
        from tubelet.serving.connections import Listener
        from tubelet.serving.limits import check_address
        from tubelet.serving.service import Service
    except ImportError as error:
        raise MissingExtra(f"cannot serve - {error} - pip install 'tubelet[serve]'.") from None
    options = options or ServingOptions()
    access = check_address(host, token or os.environ.get(TOKEN_VARIABLE) or None, insecure, options.hosts)
    sources = [models] if isinstance(models, str | os.PathLike) else list(models)
    names = _name_models([os.fspath(source) for source in sources])
    service = Service({name: load(source, device=device) for name, source in names.items()}, options)
    shown = f"[{host}]" if ":" in host else host
    try:
        Listener(
            make_app(service, access),
            host,
            port,
            head_s=options.body_s,
            on_start=lambda found: on_start(f"http://{shown}:{found}/"),
            on_stop=service.stop,
        ).run()
    finally:
        service.close()


def _name_models(sources: Sequence[str]) -> dict[str, str]:
    """Name models by the last parts of their paths, with a number where two have the same."""
    names: dict[str, str] = {}
    for source in sources:
        path = PurePath(source)
        name = path.parent.name if path.name == "model" and path.parent.name else path.name or source
        number = 2
        chosen = name
        while chosen in names:
            chosen, number = f"{name}-{number}", number + 1
        names[chosen] = source
    return names
