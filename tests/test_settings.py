"""Settings: where they are read from, what they accept, and what they say about what they do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import ConfigError, PgQueuer, Settings
from pgq_sync.settings import parse_duration

SECRET = "postgresql://ann:s3cret@db/app"


def test_the_defaults_need_no_environment() -> None:
    settings = Settings()
    assert (settings.dsn, settings.prefix, settings.schema, settings.max_payload) == (None, "pgq_", None, 1024 * 1024)
    assert (settings.concurrency, settings.batch_size, settings.notify) == (10, None, True)
    assert (settings.poll_interval, settings.shutdown_timeout) == (timedelta(seconds=5), timedelta(seconds=30))
    assert Settings.from_env({}) == settings


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("PGQ_DSN", SECRET, "dsn", SECRET),
        ("PGQ_DSN", "", "dsn", None),
        ("PGQ_LISTEN_DSN", "host=/run/postgresql", "listen_dsn", "host=/run/postgresql"),
        ("PGQ_PREFIX", "jobs_", "prefix", "jobs_"),
        ("PGQ_SCHEMA", "queue", "schema", "queue"),
        ("PGQ_SCHEMA", "", "schema", None),
        ("PGQ_MAX_PAYLOAD", "4096", "max_payload", 4096),
        ("PGQ_CONCURRENCY", " 3 ", "concurrency", 3),
        ("PGQ_BATCH_SIZE", "50", "batch_size", 50),
        ("PGQ_BATCH_SIZE", "", "batch_size", None),
        ("PGQ_MAX_STUCK", "0", "max_stuck", 0),
        ("PGQ_SHUTDOWN_TIMEOUT", "0", "shutdown_timeout", timedelta()),
        ("PGQ_POLL_INTERVAL", "500ms", "poll_interval", timedelta(milliseconds=500)),
        ("PGQ_RETENTION", "14d", "retention", timedelta(days=14)),
        *[("PGQ_NOTIFY", text, "notify", True) for text in ("1", "true", "TRUE", "yes", "on", " True ")],
        *[("PGQ_NOTIFY", text, "notify", False) for text in ("0", "false", "No", "off")],
    ],
)
def test_each_kind_of_variable_is_read(variable: str, text: str, name: str, value: Any) -> None:
    settings = Settings.from_env({variable: text})
    assert settings == Settings(**{name: value})
    assert type(getattr(settings, name)) is type(value)


def test_the_environment_of_the_process_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQ_CONCURRENCY", "7")
    assert Settings.from_env().concurrency == 7


def test_what_is_passed_overrides_the_environment() -> None:
    settings = Settings.from_env({"PGQ_CONCURRENCY": "7", "PGQ_PREFIX": "a_"}, concurrency=8)
    assert (settings.concurrency, settings.prefix) == (8, "a_")


@pytest.mark.parametrize(
    "variable", ["CHANNEL", "PREFIX", "SCHEMA", "DSN", "CONCURRENCY", "PGCONCURRENCY", "pgq_prefix", "MY_PGQ_PREFIX", "PGPREFIX"]
)
def test_bare_and_foreign_names_are_never_read(variable: str) -> None:
    assert Settings.from_env({variable: "12"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "near"),
    [("PGQ_CONCURENCY", "concurrency"), ("PGQ_POLL_INTERVALL", "poll_interval"), ("PGQ_PREFIXES", "prefix")],
)
def test_an_unknown_variable_is_named_with_the_nearest_one(variable: str, near: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({variable: "1"})
    assert str(refused.value).startswith(f"{variable}: ")
    assert f"did you mean {near!r}?" in str(refused.value)


def test_an_unknown_variable_that_resembles_none_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match=r"^PGQ_XYZZY: .*known settings: batch_size, beat_interval, .*shutdown_timeout"):
        Settings.from_env({"PGQ_XYZZY": "1"})


@pytest.mark.parametrize(
    ("variable", "text", "accepted"),
    [
        ("PGQ_CONCURRENCY", "many", "a whole number"),
        ("PGQ_CONCURRENCY", "2.5", "a whole number"),
        ("PGQ_CONCURRENCY", "", "a whole number"),
        ("PGQ_BATCH_SIZE", "x", "a whole number"),
        ("PGQ_NOTIFY", "maybe", "true or false"),
        ("PGQ_NOTIFY", "", "true or false"),
        ("PGQ_POLL_INTERVAL", "soon", "a duration such as 30, 2.5, 500ms, 5s"),
        ("PGQ_POLL_INTERVAL", "-5", "a duration such as"),
        ("PGQ_POLL_INTERVAL", "5 weeks", "a duration such as"),
        ("PGQ_POLL_INTERVAL", "nan", "a duration such as"),
        pytest.param("PGQ_RETENTION", 30 * "9" + "d", "a duration such as", id="longer than a timedelta"),
        ("PGQ_CONCURRENCY", "0", "a whole number from 1 up"),
        ("PGQ_MAX_STUCK", "-1", "a whole number from 0 up"),
        ("PGQ_POLL_INTERVAL", "0", "a positive duration"),
    ],
)
def test_a_malformed_variable_is_named_with_its_value_and_what_is_accepted(variable: str, text: str, accepted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({variable: text})
    message = str(refused.value)
    assert message.startswith(f"{variable}={text!r}: ")
    assert accepted in message
    assert message.endswith("is accepted")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in ("max_payload", "pool_size", "concurrency", "batch_size")],
        *[("max_stuck", value) for value in (-1, None, 1.0, "1")],
        *[("concurrency", value) for value in (-1, True, 2.0, "2", None)],
        *[("notify", value) for value in (1, "true", None)],
        *[("poll_interval", value) for value in (timedelta(), timedelta(seconds=-1), 5, "5s", None)],
        *[(name, timedelta()) for name in ("beat_interval", "liveness_limit", "retention")],
        ("shutdown_timeout", timedelta(seconds=-1)),
        *[("misfire_grace", timedelta(seconds=seconds)) for seconds in (-1, 0, 0.9)],
        *[("prefix", value) for value in (None, "", "x y", "9x", "a-b", "a.b", "a\0b", 'a"b', 33 * "p", 17 * "ä")],
        *[("schema", value) for value in (b"queue", "", "a.b", "a\0b", 'a"b', "a'b")],
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    for make in (Settings, Settings().replace):
        with pytest.raises(ConfigError) as refused:
            make(**{name: value})
        assert str(refused.value).startswith(f"{name}={value!r}: ")
        assert str(refused.value).endswith("is accepted")


def test_a_schema_may_have_a_space_in_it() -> None:
    assert Settings(schema="the jobs", prefix=32 * "p").schema == "the jobs"


def test_names_of_tables_are_checked_where_they_are_given() -> None:
    with pytest.raises(ConfigError, match=r"^PGQ_PREFIX='x y': a name of letters, digits and underscores, .* is accepted$"):
        Settings.from_env({"PGQ_PREFIX": "x y"})
    with pytest.raises(
        ConfigError, match=r"^PGQ_SYNC\['SCHEMA'\]='a;b': a name of letters, digits, _, \$, - and spaces is accepted$"
    ):
        Settings.from_mapping({"SCHEMA": "a;b"}, "PGQ_SYNC")


def test_a_worker_may_not_be_taken_for_dead_between_two_signs_of_life() -> None:
    for name, seconds in (("liveness_limit", 9.9), ("beat_interval", 8)):
        with pytest.raises(ConfigError, match=r"^liveness_limit is (9.9|15) s and beat_interval (5|8) s: .*at least twice"):
            Settings().replace(**{name: timedelta(seconds=seconds)})
    with pytest.raises(ConfigError, match="liveness_limit is 1 s and beat_interval 5 s"):
        PgQueuer.in_memory(settings=Settings()).worker(liveness_limit=timedelta(seconds=1))
    assert Settings(liveness_limit=timedelta(seconds=10)).beat_interval == timedelta(seconds=5)


def test_a_duration_that_is_no_timedelta_is_told_to_be_one() -> None:
    with pytest.raises(ConfigError, match="timedelta"):
        Settings(poll_interval=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("0", 0), ("30", 30), ("2.5", 2.5), ("500ms", 0.5), ("5s", 5), ("10m", 600), ("2h", 7200), ("7d", 604800)],
        *[(" 5 s ", 5), ("0.5h", 1800), ("1500 ms", 1.5)],
    ],
)
def test_durations_are_written_in_seconds_or_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "s", "5 w", "-5", "+5", "1e3", "5,5", ".5", "5.", "5s 10", "0x10", "inf", "1:30"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write seconds, or a number with ms, s, m, h or d"):
        parse_duration(text)


def test_a_mapping_takes_values_and_texts_under_names_of_any_case() -> None:
    given = {"CONCURRENCY": 3, "poll_interval": "500ms", "NOTIFY": "off", "Prefix": "jobs_", "SCHEMA": None, "retention": "7d"}
    settings = Settings.from_mapping(given, "PGQ_SYNC")
    assert settings == Settings(
        concurrency=3, poll_interval=timedelta(milliseconds=500), notify=False, prefix="jobs_", retention=timedelta(days=7)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"CONCURENCY": 3}, r"^PGQ_SYNC\['CONCURENCY'\]: .*did you mean 'concurrency'\?"),
        ({"CONCURENCY": "3"}, r"^PGQ_SYNC\['CONCURENCY'\]: .*did you mean 'concurrency'\?"),
        ({"CONCURRENCY": "many"}, r"^PGQ_SYNC\['CONCURRENCY'\]='many': a whole number is accepted"),
        ({"POLL_INTERVAL": "soon"}, r"^PGQ_SYNC\['POLL_INTERVAL'\]='soon': a duration such as .* is accepted"),
        ({"CONCURRENCY": 0}, r"^PGQ_SYNC\['CONCURRENCY'\]=0: a whole number from 1 up is accepted"),
        ({"NOTIFY": 1}, r"^PGQ_SYNC\['NOTIFY'\]=1: true or false .*is accepted"),
    ],
)
def test_an_entry_of_a_mapping_that_cannot_be_used_is_named_as_it_stands_there(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.from_mapping(given, "PGQ_SYNC")


def test_replace_changes_a_copy() -> None:
    settings = Settings(dsn=SECRET, concurrency=3)
    assert settings.replace(concurrency=4) == Settings(dsn=SECRET, concurrency=4)
    assert settings.concurrency == 3


def test_replace_names_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'poll_intervall'; did you mean 'poll_interval'\?"):
        Settings().replace(poll_intervall=timedelta(seconds=1))


def test_no_dsn_is_shown() -> None:
    settings = Settings(dsn=SECRET, listen_dsn=SECRET.replace("db", "direct"))
    application = PgQueuer.from_dsn(SECRET, settings=settings)
    for shown in (repr(settings), str(settings), f"{[settings]}", repr(application), repr(application.registry)):
        assert "s3cret" not in shown
        assert "postgresql" not in shown
    assert "concurrency=10" in repr(settings)


@pytest.mark.parametrize("name", ["dsn", "listen_dsn"])
def test_a_dsn_of_the_wrong_type_is_refused_without_being_shown(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**{name: SECRET.encode()})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused_mapping:
        Settings.from_mapping({name.upper(): {"PASSWORD": "s3cret"}}, "PGQ_SYNC")
    for message in (str(refused.value), str(refused_mapping.value)):
        assert name in message.lower()
        assert "s3cret" not in message
