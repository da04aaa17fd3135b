"""Compute what a model's head reads of clips, keep it in a file, and find clips that are alike."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample
from tubelet.data.features import check_kind
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.data.unlabelled import UNLABELLED, list_clips, open_unlabelled
from tubelet.errors import CheckpointError, ConfigError, DataError, name_nearest
from tubelet.evaluation.inference import infer_samples
from tubelet.model_folder import hash_weights
from tubelet.prediction.load import load_classifier

__all__ = ["Embeddings", "Neighbor", "embed", "find_similar"]


class Neighbor(NamedTuple):
    """Name a clip that is like another one."""

    name: str
    similarity: float
    """Cosine of the angle between their features, less the mean of all: 1 for the same clip, around 0 for strangers."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Hold what a model's head reads of each clip."""

    names: tuple[str, ...]
    """Of the clips, as their source has them."""
    features: Float32[np.ndarray, "clip dim"]
    labels: tuple[str, ...]
    """Empty where nobody has labelled a clip."""
    weights: str
    """sha256 of the weights: features of different models cannot be compared."""
    failed: tuple[BadSample, ...] = ()
    """Clips that could not be read; they are not stored."""

    def find_nearest(self, clip: str | Float32[np.ndarray, " dim"], count: int = 5) -> list[Neighbor]:
        """List the clips most like another one, the most alike first.

        Args:
            clip: which of these clips is asked about, by name; or the features of another.
            count: how many.

        Raises:
            DataError: no clip has this name.
        """
        if isinstance(clip, str) and clip not in self.names:
            near = name_nearest(clip, self.names) or "."
            raise DataError(
                f"cannot look for clips like '{clip}' - it is none of the {len(self.names)}{near} Give a name as they "
                f"are stored, such as '{self.names[0]}', or the path of a video."
            )
        own = self.names.index(clip) if isinstance(clip, str) else None
        middle = self.features.mean(axis=0)
        wanted = self.features[own] if isinstance(clip, str) else clip
        similarities = _point(self.features - middle) @ _point(wanted - middle)
        ranked = [place for place in np.argsort(-similarities, kind="stable").tolist() if place != own]
        return [Neighbor(self.names[place], float(similarities[place])) for place in ranked[:count]]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.npz` (names, features, labels, weights), or `.parquet` with one row a clip.

        Raises:
            ConfigError: another ending, or `.parquet` without the package pyarrow.
        """
        ending = _check_ending(path)
        if ending == ".parquet":
            self._save_parquet(path)
            return
        with files.write_whole(path) as stream:
            np.savez(
                stream,
                names=np.array(self.names, np.str_),
                features=self.features,
                labels=np.array(self.labels, np.str_),
                weights=np.array(self.weights),
            )

    def _save_parquet(self, path: str | os.PathLike[str]) -> None:
        arrow, parquet = _import_arrow()
        columns = {"name": list(self.names), "label": list(self.labels), "features": list(self.features)}
        table = arrow.table(columns).replace_schema_metadata({"weights": self.weights})
        with files.write_whole(path) as stream:
            parquet.write_table(table, stream)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Embeddings":
        """Read what `save` wrote.

        Raises:
            CheckpointError: no such file, or not one of these.
            ConfigError: another ending, or `.parquet` without the package pyarrow.
        """
        ending = _check_ending(path)
        try:
            if ending == ".parquet":
                table = _import_arrow()[1].read_table(path)
                rows = table.to_pydict()
                features = np.array(rows["features"], np.float32)
                weights = table.schema.metadata[b"weights"].decode()
                return cls(tuple(rows["name"]), features, tuple(rows["label"]), weights)
            with np.load(path, allow_pickle=False) as held:
                names, labels = (tuple(held[key].tolist()) for key in ("names", "labels"))
                return cls(names, held["features"].astype(np.float32), labels, str(held["weights"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CheckpointError(
                f"cannot read embeddings from {os.fspath(path)!r} - {error} - 'tubelet embed' writes them."
            ) from None


def _point(rows: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Bring rows to length 1."""
    lengths: Float32[np.ndarray, ...] = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    directions: Float32[np.ndarray, ...] = np.divide(rows, lengths)
    return directions


def _check_ending(path: str | os.PathLike[str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in (".npz", ".parquet"):
        raise ConfigError(f"embeddings lie in .npz or .parquet files - found {os.fspath(path)!r} - give such a name.")
    return ending


def _import_arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise ConfigError(
            "a .parquet file needs the package pyarrow - it is not there - 'pip install pyarrow', or take .npz."
        ) from None
    return pyarrow, pyarrow.parquet


def embed(
    model: Classifier | str | os.PathLike[str],
    clips: Manifest | str | os.PathLike[str],
    *,
    known: Embeddings | None = None,
    options: LoaderOptions | None = None,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Embeddings:
    """Compute the features of clips: what the head of a model reads.

    Args:
        model: a classifier, or anything that `tubelet.load` takes.
        clips: a folder of videos, a list of files, or labelled clips, of all splits.
        known: features computed before; clips that are in it by name are not read again.
        options: batch, workers, decoder.
        device: where a model that is loaded runs.
        on_step: called with clips done and clips in all.

    Raises:
        DataError: no such clips, or none that can be read.
        ConfigError: known features of another model.

    Cost: one view of each clip through the model.
    """
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device=device)
    manifest = clips if isinstance(clips, Manifest) else open_unlabelled(clips, val=0.0, test=0.0)
    check_kind(manifest, classifier.input_spec)
    weights = hash_weights(classifier.model)
    if known is not None and known.weights != weights:
        raise ConfigError(
            "cannot add to these features - they are of another model, or of other weights of it - choose another file."
        )
    rows = dict(zip(known.names, known.features, strict=True)) if known else {}
    new = [sample for sample in manifest.samples if sample.name not in rows]
    found = infer_samples(
        classifier, new, manifest, options=options, on_step=lambda done: on_step(done, len(new))
    )  # fmt: skip
    rows |= {new[place].name: row for place, row in zip(found.indices.tolist(), found.features, strict=True)}
    read = [sample for sample in manifest.samples if sample.name in rows]
    if not read:
        raise DataError(
            f"cannot embed the clips of '{manifest.origin}' - none of {len(new)} can be read - the first says: "
            f"{found.bad[0].message}"
        )
    return Embeddings(
        tuple(sample.name for sample in read),
        np.stack([rows[sample.name] for sample in read]),
        tuple("" if sample.label == UNLABELLED else sample.label for sample in read),
        weights,
        found.bad,
    )


def find_similar(
    classifier: Classifier, among: Embeddings, clip: str, count: int = 5, options: LoaderOptions | None = None
) -> list[Neighbor]:
    """List the clips most like one of them, or like a file that lies elsewhere.

    Args:
        classifier: that made the embeddings.
        among: the clips.
        clip: the name of one of them, or the path of a video.
        count: how many.
        options: workers, decoder.

    Raises:
        DataError: neither, or a video that cannot be read.
    """
    if clip in among.names or not Path(clip).exists():
        return among.find_nearest(clip, count)
    return among.find_nearest(embed(classifier, list_clips([clip], clip), options=options).features[0], count)
