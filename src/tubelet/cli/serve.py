"""`tubelet serve`: a page and an API for models."""

from typing import Annotated

from cyclopts import Parameter

from tubelet.serving.options import ServingOptions

__all__ = ["serve_models"]


def serve_models(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str | None, Parameter(env_var=())] = None,
    insecure: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    options: Annotated[ServingOptions, Parameter(name="*")] = ServingOptions(),  # noqa: B008 - frozen
) -> None:
    """Answer over HTTP what is in the videos that come, and show a page for it, until Ctrl-C.

    Only this machine reaches the server, unless --host says otherwise; then clients must show the token.

    Parameters
    ----------
    models: str
        Runs, model folders, folders of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    host: str
        Address to listen at; 0.0.0.0 is every one of this machine, and needs a token.
    port: int
        Number; 0 takes any that is free.
    token: str
        What clients must show. Better in the environment, TUBELET_TOKEN: other users see what was typed.
    insecure: bool
        Take no token although other machines reach the address.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    """
    from rich.console import Console

    from tubelet.serving.serve import serve

    say = Console(stderr=True).print
    serve(
        models, host=host, port=port, token=token, insecure=insecure, device=device, options=options,
        on_start=lambda address: say(f"tubelet: serving at {address} (Ctrl-C stops)", markup=False),
    )  # fmt: skip
