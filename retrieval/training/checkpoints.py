"""Checkpoints of a training: one file per epoch, written atomically, read without executing anything."""

from __future__ import annotations

import json
import logging
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from retrieval.networks.files import save_whole
from retrieval.training.beside import Beside
from retrieval.training.record import EpochProgress, EpochRecord, TrainingState
from storage.files.whole import sweep_unfinished, write_text

LOGGER = logging.getLogger(__name__)
_WITHIN = ("tuples", "losses", "distances", "counts")
_NAME = re.compile(r"epoch_(\d{6})\.safetensors")


class CheckpointFolder:
    """The checkpoints of one training in work_dir. `fingerprint` names the training: options without its
    length, inputs; kept: newest epochs whose checkpoints stay."""

    def __init__(self, work_dir: Path, fingerprint: str, kept: int = 2) -> None:
        self._folder = work_dir / "training"
        self._fingerprint = fingerprint
        self._kept = kept
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claim()

    def save(
        self,
        state: TrainingState,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        measured: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the checkpoint of state.epoch, and the network too if it is the best, or the one within the
        epoch that has begun; drop what is superseded. measured: the weights that val measured, None: those of
        the network."""
        if state.within is None and state.best_epoch == state.epoch:
            best = network.state_dict() if measured is None else dict(measured)
            _write(self._best(state.epoch), _named("network", best), {"epoch": state.epoch})
        tensors = _named("network", network.state_dict())
        tensors |= _named("optimizer", _optimizer_tensors(optimizer))
        tensors |= {f"mined.{epoch}": torch.from_numpy(tuples) for epoch, tuples in state.mined.items()}
        tensors["checks"] = torch.from_numpy(state.checks)
        tensors |= _named("beside", {name: torch.as_tensor(value) for name, value in state.beside.items()})
        facts = {
            "history": [asdict(record) for record in state.history],
            "best_epoch": state.best_epoch,
            "warnings": state.warnings,
        }
        if state.within is not None:
            tensors |= {f"within.{name}": torch.from_numpy(getattr(state.within, name)) for name in _WITHIN}
            facts["within"] = {name: getattr(state.within, name) for name in ("epoch", "part", "seconds")}
        _write(self._path(state.epoch) if state.within is None else self._within(state.epoch), tensors, facts)
        self._tidy(state)

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int
    ) -> TrainingState | None:
        """Fill network and optimiser from the newest intact checkpoint of at most `epochs`; None: there is
        none."""
        for path in self._newest_first(epochs):
            try:
                tensors, facts = _read(path)
                state = _state(tensors, facts)
                self._read_best(state.best_epoch)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                LOGGER.warning("checkpoint %s is damaged (%s): using an older one", path.name, error)
                continue
            network.load_state_dict(_part("network", tensors))
            _restore_optimizer(optimizer, _part("optimizer", tensors))
            return state
        return None

    def load_best(self, network: nn.Module, epoch: int) -> None:
        """Fill the network with that of the best epoch."""
        network.load_state_dict(self._read_best(epoch))

    def load_epoch(self, network: nn.Module, epoch: int) -> None:
        """Fill the network with that of an epoch whose checkpoint was kept. OSError where it was not."""
        network.load_state_dict(_part("network", _read(self._path(epoch))[0]))

    def keep_before(self, rows: NDArray[np.float32]) -> None:
        _write(self._folder / "before.safetensors", {"before": torch.from_numpy(rows)}, {})

    def before(self) -> NDArray[np.float32] | None:
        """Descriptors of the untrained network, None where there are none or they are damaged."""
        try:
            return _read(self._folder / "before.safetensors")[0]["before"].numpy()  # type: ignore[no-any-return]
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def _claim(self) -> None:
        """Empty the folder if another training owns it."""
        owner = self._folder / "training.json"
        if owner.is_file() and owner.read_text(encoding="utf-8") == self._fingerprint:
            sweep_unfinished(self._folder)  # of a run that was killed while writing
            return
        shutil.rmtree(self._folder)
        write_text(owner, self._fingerprint)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch_{epoch:06d}.safetensors"

    def _within(self, epoch: int) -> Path:
        """The checkpoint of the epoch that began after this one."""
        return self._folder / f"within_{epoch + 1:06d}.safetensors"

    def _newest_first(self, epochs: int) -> list[Path]:
        """Checkpoints of trainings of at most that many epochs."""
        return [
            path
            for epoch in sorted(self._epochs(), reverse=True)
            if epoch <= epochs
            for path in (self._within(epoch), self._path(epoch))
            if path.is_file() and (path == self._path(epoch) or epoch < epochs)
        ]

    def _best(self, epoch: int) -> Path:
        return self._folder / f"best_{epoch:06d}.safetensors"

    def _read_best(self, epoch: int) -> dict[str, Tensor]:
        return _part("network", _read(self._best(epoch))[0])

    def _epochs(self) -> list[int]:
        return [int(found[1]) for path in self._folder.iterdir() if (found := _NAME.fullmatch(path.name))]

    def _tidy(self, state: TrainingState) -> None:
        kept = sorted(epoch for epoch in self._epochs() if epoch <= state.epoch)[-self._kept :]
        for epoch in self._epochs():
            if epoch not in kept:
                self._path(epoch).unlink()
        needed = {_best_of_checkpoint(self._path(epoch)) for epoch in kept} | {state.best_epoch}
        for path in self._folder.glob("within_*.safetensors"):
            if path != self._within(state.epoch) or state.within is None:
                path.unlink()
        for path in self._folder.glob("best_*.safetensors"):
            if int(path.stem.removeprefix("best_")) not in needed:
                path.unlink()


class Journal:
    """What a training has done so far, kept in its folder by the first process."""

    def __init__(
        self,
        folder: CheckpointFolder,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        writes: bool,
        beside: Beside,
    ) -> None:
        self.state = TrainingState()
        self._folder, self._network, self._optimizer, self._writes = folder, network, optimizer, writes
        self._beside = beside

    def restore(self, epochs: int) -> bool:
        """Go on from the newest checkpoint of at most `epochs`; whether there is one."""
        found = self._folder.restore(self._network, self._optimizer, epochs)
        self.state = found or self.state
        if found is not None:
            self._beside.restore(found.beside)
        return found is not None

    def save(self, checks: NDArray[np.int64]) -> None:
        """Keep the state with what was checked."""
        self.state.checks = checks
        self.state.beside = self._beside.kept()
        if self._writes:
            self._folder.save(self.state, self._network, self._optimizer, self._beside.measured())

    def keep_before(self, rows: NDArray[np.float32]) -> None:
        if self._writes:
            self._folder.keep_before(rows)

    def warn(self, text: str) -> None:
        """Say it once."""
        if text not in self.state.warnings:
            self.state.warnings.append(text)
            LOGGER.warning("%s", text)


def _best_of_checkpoint(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()["state"])["best_epoch"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return -1


def _write(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    state = json.dumps(facts)
    save_whole(path, contiguous, {"state": state, "crc32": _checksum(contiguous, state)})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    found = _checksum(tensors, metadata["state"])
    if metadata.get("crc32", found) != found:
        raise ValueError("its checksum is not that of its content")
    return tensors, json.loads(metadata["state"])


def _checksum(tensors: dict[str, Tensor], state: str) -> str:
    """Of everything in the file; safetensors has none. Against a disk's errors, not against an attacker."""
    found = zlib.crc32(state.encode())
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _state(tensors: dict[str, Tensor], facts: dict[str, Any]) -> TrainingState:
    return TrainingState(
        history=[EpochRecord(**record) for record in facts["history"]],
        best_epoch=int(facts["best_epoch"]),
        warnings=list(facts["warnings"]),
        mined={int(epoch): tuples.numpy() for epoch, tuples in _part("mined", tensors).items()},
        checks=tensors["checks"].numpy(),
        within=_progress(tensors, facts),
        beside={name: tensor.numpy() for name, tensor in _part("beside", tensors).items()},
    )


def _progress(tensors: dict[str, Tensor], facts: dict[str, Any]) -> EpochProgress | None:
    if "within" not in facts:
        return None
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in _part("within", tensors).items()}
    return EpochProgress(**facts["within"], **arrays)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of parameter i under "i.<quantity>"."""
    return {
        f"{position}.{quantity}": value
        for position, parameter in enumerate(_parameters(optimizer))
        for quantity, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """In the memory layout of each parameter: rounding depends on it."""
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for name, value in tensors.items():
        position, quantity = name.split(".", 1)
        parameter = parameters[int(position)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][quantity] = value


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
