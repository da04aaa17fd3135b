"""`tubelet pretrain`: from clips without labels to an encoder that has seen them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from tubelet.cli.run_options import SHORTCUTS, RunOptions, is_main
from tubelet.config import collect, overrides_type
from tubelet.recipes.pretraining import PretrainingRecipe

__all__ = ["PretrainOptions", "pretrain_model"]

RecipeOptions: Any = overrides_type(PretrainingRecipe)


@dataclass(frozen=True)
class PretrainOptions(RunOptions):
    """Hold the options of the command; those that stand for a field of the recipe are None where not typed."""

    shortcuts: ClassVar[Mapping[str, str]] = {**SHORTCUTS, "mask_ratio": "model.mask_ratio"}

    mask_ratio: float | None = None
    """Share of each clip that is hidden, 0.75 by default. Short for --model.mask-ratio."""


def pretrain_model(
    data: str | None = None,
    *,
    options: Annotated[PretrainOptions, Parameter(name="*")] = PretrainOptions(),
    fields: Annotated[RecipeOptions | None, Parameter(name="*")] = None,
) -> None:
    """Pre-train a VideoMAE without labels into runs/NAME.

    Parameters
    ----------
    data: str
        Folder of videos, .txt file with one path a line, or anything that 'tubelet train' takes; labels are ignored.
    """
    from tubelet.cli.progress import PretrainingTerminal, print_pretraining_result
    from tubelet.training.pretraining import pretrain

    changes = options.list_changes() | collect(fields)
    places = options.list_places() | changes
    with PretrainingTerminal(quiet=options.json or not is_main()) as terminal:
        result = pretrain(data, listener=options.add_trackers(terminal), **places)
    if is_main():
        print_pretraining_result(result, as_json=options.json)
