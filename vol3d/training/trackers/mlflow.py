"""MLflow: the settings, curves, previews and bundles of many runs in one store (an extra)."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from vol3d.config import flat
from vol3d.errors import ConfigError
from vol3d.io.reading import first_line, read_json
from vol3d.training.tracker import Track, Tracker

NOTE = "mlflow.json"
"""In the run folder: which run of which store this is."""
AT_ONCE = 100
"""Parameters that a store takes in one call."""
LONGEST = 6000
"""Characters that a store takes for a parameter."""


class MLflow(Tracker):
    """A run of an MLflow experiment; a resumed run goes on as the same one.

    What was measured between the last checkpoint and a kill is there twice, with the same values.
    """

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    """The store, e.g. sqlite:////data/mlflow.db or a server's address; null takes
    MLFLOW_TRACKING_URI, or else mlflow.db beside the run folder."""
    experiment: str = "vol3d"
    """The experiment; made if it is new."""

    def open(self, run: Path, settings: dict[str, Any], nimg: int) -> "Followed":
        """Find the run that the folder notes, or begin one, named like the folder."""
        note = run / NOTE
        if not (nimg and note.is_file()):
            client = self.client(run)
            run_id = client.create_run(
                self.experiment_id(client, run), run_name=run.name
            ).info.run_id
            log_settings(client, run_id, settings)
            note.write_text(json.dumps({"run_id": run_id}))
            return Followed(client, run_id)
        followed = self.found(run)
        followed.client.update_run(followed.run_id, status="RUNNING")
        return followed

    def finish(self, run: Path, bundle: Path) -> None:
        """The bundle becomes an artifact, and the run is finished."""
        if not (run / NOTE).is_file():
            return
        followed = self.found(run)
        client, run_id = followed.client, followed.run_id
        if client.get_run(run_id).info.status != "FINISHED":
            client.log_artifacts(run_id, str(bundle), "bundle")
            client.set_terminated(run_id, "FINISHED")

    def found(self, run: Path) -> "Followed":
        """The run that the folder notes."""
        run_id = str(read_json(run / NOTE).get("run_id"))
        client = self.client(run)
        try:
            client.get_run(run_id)
        except Exception as error:
            raise ConfigError(
                f"trackers: MLflow does not find run {run_id} of {run / NOTE} ({first_line(error)}); "
                f"give the uri it was started with, or remove that file to begin another"
            ) from None
        return Followed(client, run_id)

    def client(self, run: Path) -> Any:
        """A client of the store."""
        # Read at import: a run tells nobody but the store that it is.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise ConfigError(
                "trackers: MLflow is not installed; pip install 'vol3d[tracking]'"
            ) from None
        beside = f"sqlite:///{run.resolve().parent / 'mlflow.db'}"
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or beside
        try:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        except Exception as error:
            raise ConfigError(f"trackers: MLflow cannot use {uri} ({first_line(error)})") from None
        return client

    def experiment_id(self, client: Any, run: Path) -> str:
        """The experiment's; with a store that is a file, artifacts lie beside it."""
        known = client.get_experiment_by_name(self.experiment)
        if known is not None:
            return known.experiment_id
        local = str(client.tracking_uri).startswith("sqlite:///")
        store = Path(str(client.tracking_uri).removeprefix("sqlite:///"))
        artifacts = (store.resolve().parent / "mlartifacts").as_uri() if local else None
        return client.create_experiment(self.experiment, artifact_location=artifacts)


class Followed(Track):
    """A run in a store."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def numbers(self, nimg: int, values: dict[str, float]) -> None:
        """A metric each."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, value, now, nimg) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def picture(self, nimg: int, path: Path) -> None:
        """An artifact."""
        self.client.log_artifact(self.run_id, str(path), "previews")


def log_settings(client: Any, run_id: str, settings: dict[str, Any]) -> None:
    """Every setting as a parameter, by its dotted name."""
    from mlflow.entities import Param

    params = [Param(k, str(v)[:LONGEST]) for k, v in flat(settings)]
    for i in range(0, len(params), AT_ONCE):
        client.log_batch(run_id, params=params[i : i + AT_ONCE])
