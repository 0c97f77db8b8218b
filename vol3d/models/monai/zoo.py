"""A folder of MONAI's model zoo: configs/*.json say how the networks in models/ were made.

Only plain values and references to them (`@latent_channels`) are read; an expression (`$...`) is not
evaluated, and counts as not said.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vol3d.errors import ConfigError
from vol3d.io.reading import read_json, understood
from vol3d.models.monai.weights import ENDINGS

CLASSES = {
    "autoencoder": ("AutoencoderKL", "AutoencoderKlMaisi"),
    "unet": ("DiffusionModelUNet",),
    "scheduler": ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "RFlowScheduler"),
}


class Zoo:
    """The settings of a folder with configs/ and models/; they stand in configs/inference.json."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        self.folder = folder
        self.config = config or folder / "configs" / "inference.json"
        if not self.config.is_file():
            raise ConfigError(
                f"{self.config}: no such file; name the JSON with the networks: config=FILE"
            )
        self.settings = read_json(self.config)

    def weights(self) -> list[Path]:
        """The files of weights."""
        found = sorted(p for p in self.folder.glob("models/*") if p.suffix in ENDINGS)
        if not found:
            raise ConfigError(
                f"{self.folder}: has no weights in models/ ({', '.join(ENDINGS)}); the zoo keeps them "
                f"apart, download them first (large_files.yml says where)"
            )
        return found

    def said_of(self, kind: str, channels: tuple[int, ...] = ()) -> dict[str, Any]:
        """The arguments of the network of these channels, or of the scheduler; {} where not said."""
        with understood(self.config):
            for entry in objects(self.settings):
                name = str(entry.get("_target_", "")).rsplit(".", 1)[-1]
                if name in CLASSES[kind]:
                    said = {k: self.resolved(v) for k, v in entry.items()} | {"_target_": name}
                    said = {k: v for k, v in said.items() if v is not None}
                    widths = said.get("channels", said.get("num_channels", ()))
                    if kind == "scheduler" or tuple(widths) == channels:
                        return said
        return {}

    def resolved(self, value: Any) -> Any:
        """A plain value; None for an expression."""
        for _ in range(8):
            if not (isinstance(value, str) and value.startswith("@")):
                break
            value = self.settings.get(value[1:])
        return None if isinstance(value, str) and value.startswith(("$", "@")) else value


def objects(settings: Any) -> Iterator[dict[str, Any]]:
    """All entries that say which class they are of, wherever they are."""
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield settings
        for value in settings.values():
            yield from objects(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from objects(value)


def hints_of(kind: str, said: dict[str, Any]) -> dict[str, Any]:
    """A network's arguments as hints for `layout.py`."""
    names = {"norm_groups": "norm_num_groups", "norm_eps": "norm_eps"}
    if kind == "unet":
        names["head_channels"] = "num_head_channels"
    hints = {ours: said[theirs] for ours, theirs in names.items() if theirs in said}
    if kind == "autoencoder" and isinstance(said.get("use_convtranspose"), bool):
        hints["transposed"] = said["use_convtranspose"]
    return hints


PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SCHEDULES = {"linear": "linear_beta", "scaled_linear": "scaled_linear_beta"}
"""Names that MONAI GenerativeModels had at first."""
BETAS = {"beta_start": ("beta_start", 1e-4), "beta_end": ("beta_end", 2e-2)}
ARGUMENTS = {
    "linear_beta": BETAS,
    "scaled_linear_beta": BETAS,
    "sigmoid_beta": {**BETAS, "sig_range": ("sig_range", 6.0)},
    "cosine": {"offset": ("s", 8e-3)},
}
"""Settings of ours by schedule: what MONAI calls each, and its default."""


def process_of(said: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The schedule as settings of ours, and the prediction; a ConfigError for one that we do not have."""
    if said.get("_target_") == "RFlowScheduler":
        raise ConfigError(
            "scheduler: the networks of MONAI's RFlowScheduler predict the image less the noise, which "
            "vol3d does not read"
        )
    name = str(said.get("schedule", said.get("beta_schedule", "linear_beta")))
    kind = SCHEDULES.get(name, name)
    if kind not in ARGUMENTS:
        raise ConfigError(f"scheduler: unknown schedule '{name}'; name ours: schedule.kind=...")
    prediction = str(said.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise ConfigError(f"scheduler: unknown prediction_type '{prediction}'")
    schedule = {
        "kind": kind,
        "num_train_timesteps": said.get("num_train_timesteps", 1000),
        **{ours: said.get(theirs, default) for ours, (theirs, default) in ARGUMENTS[kind].items()},
        "spacing": "leading",
    }
    return schedule, PREDICTIONS[prediction]
