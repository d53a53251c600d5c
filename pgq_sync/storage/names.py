"""The names of everything in the database, derived from one prefix and one schema.

Statements and migrations are written with names in braces; they are filled in here, once per installation.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass

from pgq_sync.settings import check_names, described

TABLES = ("job", "history", "worker", "schedule", "limit", "cancel", "progress", "watch", "version")
FUNCTIONS = ("channel", "announce", "announce_ended", "announce_insert", "enqueue", "enqueue_many", "maintain")
LOCAL = (  # live in their table's schema, and are therefore named without one
    *("job_ready", "job_quarantine", "job_running", "job_held", "job_dedupe", "job_announce"),
    *("history_id", "history_failed"),
    *("job_check", "history_status_check", "worker_state_check", "schedule_check"),
    *("version_row_check", "version_durability_check"),
)
ENDED = "_ended"  # what the channel on which watchers listen has behind the name of the workers' own
_PREFIX: str = described("prefix")[1]
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Names:
    """The tables, functions and the channel of one installation.

    Args:
        prefix: the beginning of every name: letters, digits and underscores, at most 32 bytes.
        schema: the schema that holds them; None means the first one on the search_path.
        program: the command line of whoever reads the messages.
        migrate: the command by which they make and upgrade the tables; None: the program's own.

    Raises:
        ConfigError: the prefix or schema cannot be used.
    """

    prefix: str = _PREFIX
    schema: str | None = None
    program: str = "pgq-sync"
    migrate: str | None = None

    def __post_init__(self) -> None:
        check_names(self.prefix, self.schema)

    @property
    def channel(self) -> str:
        """The NOTIFY channel: hashed, since channels too are limited to 63 bytes."""
        return "pgq_" + hashlib.sha256(f"{self.schema or ''}.{self.prefix}".encode()).hexdigest()[:24]

    @property
    def lock_key(self) -> int:
        """The advisory lock that serialises changes of this installation's schema."""
        return int.from_bytes(hashlib.sha256(self.channel.encode()).digest()[:8], "big", signed=True)

    def command(self, command: str) -> str:
        """The command line by which somebody else runs `command` on this installation."""
        if self.migrate is not None and command in ("install", "upgrade"):
            return self.migrate
        words = [*self.program.split(), *command.split()]
        if self.program != "pgq-sync":
            return shlex.join(words)  # it reads the settings, prefix and schema among them, by itself
        if self.prefix != _PREFIX:
            words += ["--prefix", self.prefix]
        if self.schema is not None:
            words += ["--schema", self.schema]
        return shlex.join(words)

    def qualified(self, name: str) -> str:
        """`name` with prefix, schema and quotes, as it stands in a statement."""
        return f"{self.schema_dot}{quote(self.prefix + name)}"

    @property
    def schema_dot(self) -> str:
        return f"{quote(self.schema)}." if self.schema else ""

    def fill(self, sql: str) -> str:
        """`sql` with every name in braces filled in.

        Raises:
            KeyError: there is a name in braces that is none of ours.
        """
        values = self._values()
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], sql)

    def _values(self) -> dict[str, str]:
        values = {name: self.qualified(name) for name in TABLES + FUNCTIONS}
        values |= {name: quote(self.prefix + name) for name in LOCAL}
        values |= {
            "channel_literal": literal(self.channel),
            "ended_channel_literal": literal(self.channel + ENDED),
            "lock_key": str(self.lock_key),
            "history_literal": literal(self.qualified("history")),
            "maintain_literal": literal(self.qualified("maintain")),
            "history_name_literal": literal(self.prefix + "history"),
            "version_name_literal": literal(self.prefix + "version"),
            "enqueue_name_literal": literal(self.prefix + "enqueue"),
            "job_sequence_literal": literal(self.qualified("job_id_seq")),
            "job_sequence": self.qualified("job_id_seq"),
            "version_literal": literal(self.qualified("version")),
            # Filled in by whoever runs the statement.
            "durability_literal": "{durability_literal}",
            "role": "{role}",
            "schema_expression": literal(self.schema) if self.schema else "current_schema()",
            "schema_definition": f"create schema if not exists {quote(self.schema)};" if self.schema else "",
        }
        return values


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
