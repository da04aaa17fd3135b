"""Build video models by name: transformers first, each in one file."""

from tubelet.models import cnn_sequence as cnn_sequence  # registers its models
from tubelet.models import frame_transformer as frame_transformer  # registers its models
from tubelet.models import i3d as i3d  # registers its models
from tubelet.models import timesformer as timesformer  # registers its models
from tubelet.models import videomae as videomae  # registers its models
from tubelet.models import vivit as vivit  # registers its models
from tubelet.models.card import ModelCard, ModelConfig
from tubelet.models.contract import VideoModel, find_card, list_models, register_model
from tubelet.models.creation import create_model
from tubelet.models.weights.loading import WeightReport, load_weights

__all__ = [
    "ModelCard",
    "ModelConfig",
    "VideoModel",
    "WeightReport",
    "create_model",
    "find_card",
    "list_models",
    "load_weights",
    "register_model",
]
