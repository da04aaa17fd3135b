"""Search for a better recipe: trials on the validation clips, most of them ended early, the best one written as YAML.

    runs/NAME/
        recipe.yaml   what all trials share             splits.csv   which clip was in which split
        search.yaml   what is varied                    study.db     what was tried so far (SQLite, of optuna)
        trials.csv    one row a trial                   tuning.png   how it went, and what mattered
        best.yaml     for `tubelet train --config`
        trial-0003/   the run folder of each trial; weights are kept of the best alone

Test clips are taken out before the first trial: no trial can look at them, so that the best recipe is judged, when it
is trained, on clips that had no part in its choice. A search that was killed goes on in the middle of its trial, by the
checkpoint of that run, and ends with the same trials as if nothing had happened.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubelet import files
from tubelet.config import override, read_config, write_config
from tubelet.data.assignments import apply_assignments, read_assignments, write_assignments
from tubelet.data.manifest import Manifest
from tubelet.errors import Interrupted, MissingExtra, TrainingError, TubeletError, name_nearest
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import resolve_recipe
from tubelet.recipes.search import Search, Space, make_space, read_space, write_space
from tubelet.report.search import draw_search
from tubelet.training.checkpoints import FREE_FIELDS
from tubelet.training.opening import check_name, fix_source
from tubelet.training.progress import QUIET, Listener, Listeners
from tubelet.training.run import CHECKPOINTS, Run
from tubelet.training.train import open_clips, train
from tubelet.training.trials import (
    Pruned,
    Reporter,
    State,
    Trial,
    decode,
    describe_trial,
    encode,
    make_table,
    suggest,
)

if TYPE_CHECKING:
    import optuna
else:  # the test suite checks signatures at run time, where optuna is not loaded yet
    optuna = type("optuna", (), {"Trial": Any, "Study": Any})

__all__ = ["TuneResult", "tune"]

TRIALS = 20
"""Trainings of a search, where nobody says how many."""
ENOUGH = 10
"""Trials that came to their end from which a guess at what mattered is more than chance."""
HOPELESS = 3
"""Failures after which a search ends if no trial has come to an end."""
_TORN = "torn"

OnTrial = Callable[[Trial, Trial | None, int], None]
"""Is told of a trial, the best so far, and how many are left."""


@dataclass(frozen=True)
class TuneResult:
    """State where a search lies and what it found."""

    folder: Path
    trials: tuple[Trial, ...]
    """All of them, in order."""
    best: Trial | None
    """The best that came to its end; None where none did."""
    recipe: Path | None
    """The recipe of the best, as YAML."""


def tune(
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    search: Search | None = None,
    name: str = "tuning",
    runs: str | os.PathLike[str] = "runs",
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener = QUIET,
    on_trial: OnTrial = lambda _trial, _best, _left: None,
    **changes: object,
) -> TuneResult:
    """Search for a better recipe, in the folder `runs/name`.

    The first trial is the recipe as it is, as far as it lies within the space; the others are proposed by a
    tree-structured Parzen estimator.

    Args:
        data: what `train` takes; some of its clips must be held out as `val`.
        recipe: what all trials share but for what is varied; a recipe, the name of a shipped one, or a YAML file.
        search: what is varied, how long, and how.
        name: name of the search, and of its folder.
        runs: folder of all runs.
        resume: go on with the interrupted search of that name; recipe and space are then those stored with it.
        overwrite: replace a search of that name, with all its trials.
        listener: told of every step of every trial.
        on_trial: told of each trial that is over.
        **changes: leaves of the recipe with `__` for the dot, such as `training__epochs=5`; they are not varied.

    Raises:
        MissingExtra: optuna is not installed.
        ConfigError: a field or a value that the recipe does not know, or a name that is none.
        TrainingError: no validation clips, a search that cannot begin or go on, or one whose trials all fail.

    Example:
        >>> result = tune("clips/", name="search", training__epochs=20)  # doctest: +SKIP

    Cost: as many trainings as trials; about half of them end early.

    Source: https://proceedings.neurips.cc/paper/2011/hash/86e8f7ab32cfd12577bc2619bc635690-Abstract.html (TPE).
    """
    _import_optuna()
    check_name(name)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise TrainingError("cannot search in several processes - it trains one after the other - leave --devices out.")
    wishes = {key.replace("__", "."): value for key, value in changes.items()}
    folder, search = Path(runs) / name, search or Search()
    if resume:
        study = _Study.reopen(folder, data, search, wishes, listener)
    else:
        source = data.origin if isinstance(data, Manifest) else None if data is None else os.fspath(data)
        base = resolve_recipe(source, recipe, wishes, listener.on_remark)
        space = search.space or make_space(base).without(wishes)
        wanted = fix_source(base, source), space.fit(base)
        study = _Study.create(folder, data, wanted, search, listener, overwrite=overwrite)
    try:
        study.execute(on_trial)
    except Interrupted as error:
        raise Interrupted(f"search {str(folder)!r} was stopped - go on with --resume.", error.status) from None
    except TubeletError:
        if not resume and not any(folder.glob("trial-*/metrics.csv")):
            shutil.rmtree(folder)  # nothing was tried: its name is free for the next attempt
        raise
    return study.result


class _Study:
    """Ask for trials, train them, and write down what came of them."""

    def __init__(self, folder: Path, manifest: Manifest, search: Search, listener: Listener) -> None:
        self.folder = folder
        self.recipe = read_config(folder / "recipe.yaml", Recipe)
        self.space = read_space(folder / "search.yaml").fit(self.recipe)
        self.listener = listener
        self.search = search
        samples = tuple(sample for sample in manifest.samples if sample.split in ("train", "val"))
        self.manifest = replace(manifest, samples=samples)
        self.study = self._open_store()

    @classmethod
    def create(
        cls,
        folder: Path,
        data: Manifest | str | os.PathLike[str] | None,
        wanted: tuple[Recipe, Space],
        search: Search,
        listener: Listener,
        *,
        overwrite: bool,
    ) -> "_Study":
        """Begin a search."""
        recipe, space = wanted
        is_search = (folder / "search.yaml").exists()
        if folder.exists() and any(folder.iterdir()) and not (is_search and overwrite):
            remedies = "continue it with --resume, replace it with --overwrite, or " if is_search else ""
            raise TrainingError(
                f"cannot begin search {str(folder)!r} - the folder holds something already - {remedies}choose another "
                "--name."
            )
        manifest = data if isinstance(data, Manifest) else open_clips(recipe, listener)
        if not manifest.select("val"):
            raise TrainingError(
                f"cannot search with {manifest.origin} - it has no validation clips to compare trials on - give some a "
                "split 'val', or raise data.val_fraction."
            )
        if is_search:
            shutil.rmtree(folder)
        files.write_text(folder / "recipe.yaml", write_config(recipe))
        write_assignments(folder / "splits.csv", manifest)
        files.write_text(folder / "search.yaml", write_space(space))  # the last: from here on it can go on
        return cls(folder, manifest, search, listener)

    @classmethod
    def reopen(
        cls,
        folder: Path,
        data: Manifest | str | os.PathLike[str] | None,
        search: Search,
        wishes: Mapping[str, Any],
        listener: Listener,
    ) -> "_Study":
        """Go on with a search."""
        if not (folder / "search.yaml").exists():
            known = [path.parent.name for path in folder.parent.glob("*/search.yaml")]
            near = name_nearest(folder.name, known) or "."
            raise TrainingError(
                f"cannot resume the search {str(folder)!r} - there is none{near} Begin without --resume."
            )
        others = [name for name in wishes if name not in FREE_FIELDS]
        if search.space is not None or others:
            raise TrainingError(
                f"cannot resume search {str(folder)!r} with another {others[0] if others else 'space'} - its trials "
                "could not be compared any more - leave that out, or begin a new search."
            )
        source = os.fspath(data) if isinstance(data, str | os.PathLike) else None
        recipe = override(fix_source(read_config(folder / "recipe.yaml", Recipe), source), wishes)
        files.write_text(folder / "recipe.yaml", write_config(recipe))
        manifest = data if isinstance(data, Manifest) else open_clips(recipe, listener)
        return cls(folder, apply_assignments(manifest, read_assignments(folder / "splits.csv")), search, listener)

    def _open_store(self) -> "optuna.Study":
        import optuna
        from sqlalchemy.engine import URL

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = os.fspath((self.folder / "study.db").absolute())
        url = URL.create("sqlite", database=path).render_as_string(hide_password=False)
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(url), study_name="tubelet", direction="maximize", load_if_exists=True
        )
        # What makes trials comparable, and their order repeatable, is that of the first time.
        fixed = study.user_attrs.get("search") or {"seed": self.search.seed, "prune": self.search.prune}
        trials = self.search.trials or fixed.get("trials") or TRIALS
        study.set_user_attr("search", {**fixed, "trials": trials})
        self.search = replace(self.search, trials=trials, seed=fixed["seed"], prune=fixed["prune"])
        epochs = self.recipe.training.epochs
        median = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 4 + 1)
        study.pruner = median if self.search.prune else optuna.pruners.NopPruner()
        return study

    @property
    def result(self) -> TuneResult:
        """What was found so far."""
        best = self._find_best()
        return TuneResult(self.folder, self._list_trials(), best, self.folder / "best.yaml" if best else None)

    def execute(self, on_trial: OnTrial) -> None:
        """Go through the trials."""
        began_s = time.monotonic()
        limit_s = 60 * (self.search.timeout_min or math.inf)
        wanted = self.search.trials or TRIALS
        self._finish_torn()
        while len(self._list_trials()) < wanted and time.monotonic() - began_s < limit_s:
            trial, error = self._try(self._take_trial())
            self._write()
            trials = self._list_trials()
            on_trial(trial, self._find_best(), wanted - len(trials))
            if len(trials) >= HOPELESS and all(one.state == "failed" for one in trials):
                raise TrainingError(f"cannot search - all of the first {len(trials)} trials failed, the last: {error}")
        self._write()

    def _finish_torn(self) -> None:
        """Give up trials that a killed process had begun to choose: the same choice is made again."""
        import optuna

        for frozen in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            if set(frozen.params) != set(self.space.ranges):
                optuna.trial.Trial(self.study, frozen._trial_id).set_user_attr(_TORN, True)
                self.study.tell(frozen.number, state=optuna.trial.TrialState.FAIL)

    def _take_trial(self) -> "optuna.Trial":
        """Take up the trial that was interrupted, or ask for a new one."""
        import optuna

        for frozen in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            return optuna.trial.Trial(self.study, frozen._trial_id)
        count = len(self._list_trials())
        # A sampler for each trial: what is tried depends on the trials before, not on interruptions between them.
        self.study.sampler = optuna.samplers.TPESampler(seed=self.search.seed + count)
        if not count and not self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            start = self.space.find_start(self.recipe)
            self.study.enqueue_trial({name: encode(value) for name, value in start.items()})
        return self.study.ask()

    def _try(self, trial: "optuna.Trial") -> tuple[Trial, TrainingError | None]:
        """Train with what a trial chose; what fails is a trial, too."""
        import optuna

        choice = {name: suggest(trial, name, one) for name, one in self.space.ranges.items()}
        recipe = override(self.recipe, choice, "this combination")
        run = Run(self.folder / f"trial-{trial.number:04d}")
        reporter = Reporter(trial, run)
        state: State = "complete"
        error: TrainingError | None = None
        try:
            is_begun = run.config_path.exists()
            if is_begun:
                reporter.report()
            train(
                self.manifest,
                recipe=None if is_begun else recipe,
                name=run.folder.name,
                runs=self.folder,
                resume=is_begun,
                listener=Listeners([self.listener, reporter]),
            )
        except Pruned:
            state = "pruned"
        except TrainingError as failure:
            state, error = "failed", failure
            self.listener.on_remark(f"trial {trial.number} failed: {failure}")
        done = describe_trial(trial.number, state, run, recipe, choice)
        trial.set_user_attr("outcome", [done.state, done.value, done.loss, done.epochs, done.seconds])
        states = optuna.trial.TrialState
        told = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[done.state]
        self.study.tell(trial.number, done.value if done.state == "complete" else None, told)
        return done, error

    def _list_trials(self) -> tuple[Trial, ...]:
        """List what was tried so far, from the store."""
        trials = []
        for frozen in self.study.get_trials(deepcopy=False):
            if frozen.state.is_finished() and _TORN not in frozen.user_attrs:
                choice = {name: decode(one, frozen.params[name]) for name, one in self.space.ranges.items()}
                state, value, loss, epochs, seconds = frozen.user_attrs["outcome"]
                trials.append(Trial(frozen.number, state, value, loss, epochs, seconds, choice))
        return tuple(trials)

    def _find_best(self) -> Trial | None:
        complete = [trial for trial in self._list_trials() if trial.state == "complete"]
        return max(complete, key=lambda trial: trial.rank, default=None)

    def _write(self) -> None:
        """Write tables, picture and recipe, and remove weights that nobody needs any more."""
        trials, best = self._list_trials(), self._find_best()
        if not trials:
            return
        files.write_text(self.folder / "trials.csv", make_table(trials))
        draw_search(
            [trial.value for trial in trials],
            [trial.state for trial in trials],
            _measure_importance(self.study),
            self.folder / "tuning.png",
        )
        if best is not None:
            files.write_text(self.folder / "best.yaml", write_config(override(self.recipe, best.choice)))
        for trial in trials:
            folder = self.folder / f"trial-{trial.number:04d}"
            for checkpoint in CHECKPOINTS:
                (folder / checkpoint).unlink(missing_ok=True)
            shutil.rmtree(folder / "shards", ignore_errors=True)
            if trial != best and not self.search.keep_all:
                shutil.rmtree(folder / "model", ignore_errors=True)


def _measure_importance(study: "optuna.Study") -> dict[str, float]:
    """Estimate how much of what the best trials have in common is due to each field; nothing where that is unknown.

    Source: arXiv 2304.10255 (PED-ANOVA).
    """
    import optuna

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _import_optuna() -> None:
    """Raise unless optuna is there.

    Raises:
        MissingExtra: it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"cannot search for a recipe - {error} - pip install 'tubelet[tune]'.") from None
