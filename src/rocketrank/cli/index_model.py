"""The model that filled an index, for the commands that encode into it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RocketRankError, UsageError
from . import options

if TYPE_CHECKING:
    from ..index import Manifest
    from ..inference import EngineName, Precision
    from ..retriever import DualEncoder


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the command line says about the model; ``model`` is where it is found now."""

    model: str | None
    device: str
    precision: "Precision"
    engine: "EngineName"
    threads: int | None


def check_model_options(chosen: ModelOptions) -> None:
    """UsageError for what this machine cannot do, before anything is opened."""
    from ..inference import choose_runtime

    options.refuse_empty("--model", chosen.model)
    choose_runtime(
        device=chosen.device,
        precision=chosen.precision,
        engine=chosen.engine,
        threads=chosen.threads,
    )


def open_encoder(directory: Path, manifest: "Manifest", chosen: ModelOptions) -> "DualEncoder":
    """The encoder that filled the index; its program is loaded when it first encodes.

    An index that was filled in fp32 stays exact: there "auto" is fp32. Raises RocketRankError for a
    model that is not found, UsageError for another one.
    """
    from ..inference import choose_runtime
    from ..models import open_model
    from ..retriever import DualEncoder

    filled = manifest.model
    exact = chosen.precision == "auto" and filled.precision == "fp32"
    runtime = choose_runtime(
        device=chosen.device,
        precision="fp32" if exact else chosen.precision,
        engine=chosen.engine,
        threads=chosen.threads,
    )
    try:
        model = open_model(chosen.model or filled.name, role="dual-encoder")
    except RocketRankError as error:
        if chosen.model:
            raise
        raise RocketRankError(
            f"the model that filled {directory} cannot be opened ({error}); if it has moved, say "
            "where with --model"
        ) from error
    if model.fingerprint != filled.fingerprint:
        raise UsageError(
            f"{directory} was filled by the model {filled.name} (fingerprint "
            f"{filled.fingerprint[:12]}), and {model.name} is another one (fingerprint "
            f"{model.fingerprint[:12]}), whose vectors cannot be compared with those: name the "
            "first with --model, or build the index again with the second"
        )
    return DualEncoder(model, runtime)
