"""Classify videos with transformers: from a folder of clips to a trained, honestly evaluated classifier.

    tubelet.train("clips/", name="mine")                      ->  runs/mine
    tubelet.evaluate("runs/mine").headline()                  ->  top-1 ... (n, failed)
    tubelet.load("runs/mine").predict("clip.mp4").label       ->  'archery'

Names are loaded on first use: importing the package costs milliseconds and imports no PyTorch.
"""

from typing import TYPE_CHECKING

from tubelet.deferred import defer

if TYPE_CHECKING:
    from tubelet.benchmarking.benchmark import benchmark as benchmark
    from tubelet.classifier import Classifier as Classifier
    from tubelet.errors import TubeletError as TubeletError
    from tubelet.errors import VideoError as VideoError
    from tubelet.evaluation.audit import audit as audit
    from tubelet.evaluation.compare import compare as compare
    from tubelet.evaluation.evaluate import evaluate as evaluate
    from tubelet.explanation.explain import explain as explain
    from tubelet.exporting.export import export as export
    from tubelet.models import create_model as create_model
    from tubelet.models import list_models as list_models
    from tubelet.models import load_weights as load_weights
    from tubelet.prediction.load import load as load
    from tubelet.prediction.predict import predict as predict
    from tubelet.prediction.stream import stream as stream
    from tubelet.recipes.recipe import Recipe as Recipe
    from tubelet.serving.serve import serve as serve
    from tubelet.teaching.embeddings import embed as embed
    from tubelet.teaching.teach import teach as teach
    from tubelet.training.pretraining import pretrain as pretrain
    from tubelet.training.train import train as train
    from tubelet.video.clip import Clip as Clip
    from tubelet.video.source import Video as Video
    from tubelet.video.spec import InputSpec as InputSpec

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "tubelet.classifier",
    "Clip": "tubelet.video.clip",
    "InputSpec": "tubelet.video.spec",
    "Recipe": "tubelet.recipes.recipe",
    "TubeletError": "tubelet.errors",
    "Video": "tubelet.video.source",
    "VideoError": "tubelet.errors",
    "audit": "tubelet.evaluation.audit",
    "benchmark": "tubelet.benchmarking.benchmark",
    "compare": "tubelet.evaluation.compare",
    "create_model": "tubelet.models",
    "embed": "tubelet.teaching.embeddings",
    "evaluate": "tubelet.evaluation.evaluate",
    "explain": "tubelet.explanation.explain",
    "export": "tubelet.exporting.export",
    "list_models": "tubelet.models",
    "load": "tubelet.prediction.load",
    "load_weights": "tubelet.models",
    "predict": "tubelet.prediction.predict",
    "pretrain": "tubelet.training.pretraining",
    "serve": "tubelet.serving.serve",
    "stream": "tubelet.prediction.stream",
    "teach": "tubelet.teaching.teach",
    "train": "tubelet.training.train",
}

__all__ = [
    "Classifier",
    "Clip",
    "InputSpec",
    "Recipe",
    "TubeletError",
    "Video",
    "VideoError",
    "audit",
    "benchmark",
    "compare",
    "create_model",
    "embed",
    "evaluate",
    "explain",
    "export",
    "list_models",
    "load",
    "load_weights",
    "predict",
    "pretrain",
    "serve",
    "stream",
    "teach",
    "train",
]

__getattr__, __dir__ = defer(__name__, _HOMES)
