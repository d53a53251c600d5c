"""What is said of a DSN that cannot be parsed: where it was found, and never what stands in it."""

from __future__ import annotations

import pytest

from pgq_sync import ConfigError, PgQueuer, Settings

BROKEN = "postgresql://ann:s3cret@[::1/app"


@pytest.mark.parametrize("variable", ["PGQ_DSN", "DATABASE_URL"])
def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, BROKEN)
    with pytest.raises(ConfigError, match=f"^{variable}: the DSN cannot be parsed: write postgresql://") as refused:
        PgQueuer.from_dsn().enqueue("work")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("pgq", [PgQueuer.from_dsn(BROKEN), PgQueuer.from_dsn(settings=Settings(dsn=BROKEN))])
def test_an_argument_is_named(pgq: PgQueuer) -> None:
    with pytest.raises(ConfigError, match=r"^dsn: the DSN cannot be parsed: write postgresql://"):
        pgq.enqueue("work")


@pytest.mark.parametrize(("variable", "name"), [(None, "listen_dsn"), ("PGQ_LISTEN_DSN", "PGQ_LISTEN_DSN")])
def test_the_listeners_is_told_from_the_other(dsn: str, monkeypatch: pytest.MonkeyPatch, variable: str | None, name: str) -> None:
    if variable:
        monkeypatch.setenv(variable, BROKEN)
    with PgQueuer.from_dsn(dsn, settings=Settings(listen_dsn=BROKEN)) as pgq:
        pgq.entrypoint("work")(lambda job: None)
        with pytest.raises(ConfigError, match=f"^{name}: the DSN cannot be parsed"):
            pgq.drain()
