"""run.sqlite: what a run has done, so that a killed one goes on where it was."""

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class RunStore:
    """Records by (kind, key), written durably one by one."""

    def __init__(self, path: Path, settings: dict[str, Any]):
        """Open or create. Raises ValueError for a file of a run with other settings, or that can't be opened."""
        self.path = path
        try:
            self.connection = sqlite3.connect(path, isolation_level=None)
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS record (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))"
            )
            found = self.get("run", "settings")
        except sqlite3.OperationalError as error:
            raise ValueError(f"{path}: could not be opened ({error}), expected a writable place, not in use") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path}: found a file that is no run record ({error}), expected none or one to resume"
            ) from error
        if found is None:
            self.put("run", "settings", settings)
        elif found != json.loads(json.dumps(settings)):
            names = [name for name in settings if found.get(name) != json.loads(json.dumps(settings[name]))]
            raise ValueError(
                f"{path.parent}: holds a run with another {', '.join(names) or 'set of options'}, "
                "expected an empty place or the same settings"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def get(self, kind: str, key: str) -> Any:
        """The record's value, None where there is none."""
        row = self.connection.execute("SELECT value FROM record WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, key: str, value: Any) -> None:
        """Write a JSON value; on return it survives a kill of the process."""
        self.put_all(kind, {key: value})

    def put_all(self, kind: str, values: dict[str, Any]) -> None:
        """Write JSON values by key, all of them or, if the process is killed or the disk full, none.

        Raises OSError that names the file.
        """
        rows = [(kind, key, json.dumps(value, allow_nan=False)) for key, value in values.items()]
        try:
            self.connection.execute("BEGIN")
            self.connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with suppress(sqlite3.Error):  # it may have been rolled back already
                self.connection.rollback()
            raise OSError(f"{self.path}: could not be written ({error}), expected space and a writable file") from error

    def first(self, kind: str, key: str, value: Any) -> Any:
        """The value that was written first: the stored one, or this one after storing it."""
        found = self.get(kind, key)
        if found is None:
            self.put(kind, key, value)
            return value
        return found
