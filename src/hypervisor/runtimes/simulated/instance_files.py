"""The files of the simulated runtime: one JSON file for each instance."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.simulated.instance import SimulatedInstance


class InstanceFiles:
    """The files of one installation. Concurrent creations of one name leave one file."""

    def __init__(self, directory: Path, install: str) -> None:
        """Create `directory` if it is missing. `install` selects the instances that `load` returns."""
        self._directory = directory
        self._install = install
        directory.mkdir(parents=True, exist_ok=True)

    def create(self, name: str, instance: SimulatedInstance) -> SimulatedInstance:
        """Write the file unless it exists. Return the instance that the file holds afterwards."""
        draft = self._write_draft(name, instance)
        try:
            os.link(draft, self._path(name))
        except FileExistsError:
            return self.read(name) or instance
        finally:
            draft.unlink()
        return instance

    def replace(self, name: str, instance: SimulatedInstance) -> None:
        """Overwrite the file in one step."""
        self._write_draft(name, instance).replace(self._path(name))

    def delete(self, name: str) -> None:
        """Delete the file. A missing file is fine."""
        self._path(name).unlink(missing_ok=True)

    def load(self) -> dict[str, SimulatedInstance]:
        """Return every readable instance of this installation by name."""
        instances = {}
        for path in self._directory.glob("hv-*.json"):
            parsed = InstanceName.parse(path.stem)
            instance = self.read(path.stem)
            if parsed is not None and parsed.install == self._install and instance is not None:
                instances[path.stem] = instance
        return instances

    def read(self, name: str) -> SimulatedInstance | None:
        """Return the instance. None for a missing file, and for a file that a power failure left empty."""
        try:
            return SimulatedInstance(**json.loads(self._path(name).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write_draft(self, name: str, instance: SimulatedInstance) -> Path:
        draft = self._directory / f".{name}.{os.getpid()}.{id(instance):x}"
        draft.write_text(json.dumps(asdict(instance)))
        return draft

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
