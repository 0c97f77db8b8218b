"""The menu of trackers: where runs are followed beside their own log."""

from vol3d.config import menu
from vol3d.training.trackers.mlflow import MLflow
from vol3d.training.trackers.tensorboard import TensorBoard

TrackerKind = menu("trackers", TensorBoard, MLflow)
