"""What `pgq.entrypoint` accepts, and what it does with its options."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from pgq_sync import (
    AbstractEntrypointExecutor,
    Context,
    DatabaseRetry,
    EntrypointExecutor,
    EntrypointExecutorParameters,
    Job,
    NewJob,
    PgQueuer,
    Settings,
)
from pgq_sync.entrypoints.calls import JobCall


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


def handler(job: Job) -> None: ...


def other(job: Job) -> None: ...


class Named(AbstractEntrypointExecutor):
    """Answers with what it was made with, in place of calling the function."""

    def execute(self, job: Job, context: Context) -> Any:
        return [self.parameters.name, job.id, context.job is job]


def test_a_second_registration_names_the_function_that_holds_the_name(application: PgQueuer) -> None:
    application.entrypoint("fetch")(handler)
    with pytest.raises(ValueError, match=r"'fetch' is registered already, for handler:"):
        application.entrypoint("fetch")(other)
    with pytest.raises(ValueError, match=r"'fetch' is registered already, for handler:"):
        application.entrypoint("fetch")(handler)
    assert application.registry.get("fetch").parameters.func is handler


def test_a_decorator_kept_for_later_is_refused_too_once_the_name_is_taken(application: PgQueuer) -> None:
    first, second = application.entrypoint("fetch"), application.entrypoint("fetch")
    first(handler)
    with pytest.raises(ValueError, match=r"'fetch' is registered already, for handler:"):
        second(other)


def test_one_function_may_serve_several_names(application: PgQueuer) -> None:
    for name in ("fetch", "Fetch", "fetch "):
        application.entrypoint(name)(handler)
    assert application.registry.names() == ("fetch", "Fetch", "fetch ")


def test_two_applications_do_not_know_of_each_other(application: PgQueuer) -> None:
    application.entrypoint("fetch")(handler)
    PgQueuer.in_memory().entrypoint("fetch")(other)
    assert application.registry.get("fetch").parameters.func is handler


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("on_failure", "retry"),
        ("on_failure", None),
        ("retry", 5),
        ("retry", DatabaseRetry),
        ("store_result", "yes"),
        ("store_result", 1),
        ("keep_history", None),
        ("keep_history", 0),
        ("accepts_context", "no"),
        ("queue", ""),
    ],
)
def test_an_option_out_of_range_names_parameter_and_value(application: PgQueuer, option: str, value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        application.entrypoint("fetch", **{option: value})
    assert str(refused.value).startswith(f"{option}={value!r}")
    application.entrypoint("fetch")(handler)  # nothing of it was kept


@pytest.mark.parametrize("field", ["entrypoint", "queue"])
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "=''.* has 0 characters: 1 to 200 are accepted"),
        (201 * "x", "='xxx.* has 201 characters: 1 to 200 are accepted"),
        ("a\x00b", r"='a\\x00b'.* contains a NUL character"),
        ("a\ud800b", r"='a\\ud800b'.* has a lone surrogate"),
    ],
)
def test_a_name_that_cannot_be_stored_is_refused(application: PgQueuer, field: str, name: str, complaint: str) -> None:
    names = {"entrypoint": "fetch", "queue": "default"} | {field: name}
    with pytest.raises(ValueError, match=f"^{field}{complaint}"):
        application.entrypoint(names["entrypoint"], queue=names["queue"])


@pytest.mark.parametrize("field", ["entrypoint", "queue"])
def test_a_name_that_is_no_text_is_refused(application: PgQueuer, field: str) -> None:
    names: dict[str, Any] = {"entrypoint": "fetch", "queue": "default"} | {field: 7}
    with pytest.raises(TypeError, match=f"^{field}=7 must be a str, not int"):
        application.entrypoint(names["entrypoint"], queue=names["queue"])


def test_a_name_may_have_two_hundred_characters_of_any_script(either: PgQueuer) -> None:
    name = 200 * "ü"
    either.entrypoint(name, queue=name, store_result=True)(lambda job: [job.entrypoint, job.queue])
    job_id = either.enqueue(name)
    either.drain()
    record = either.jobs.get(job_id)
    assert record is not None
    assert record.result == [name, name]


def test_the_executor_factory_gets_what_was_declared(application: PgQueuer) -> None:
    given: list[EntrypointExecutorParameters] = []

    def factory(parameters: EntrypointExecutorParameters) -> AbstractEntrypointExecutor:
        given.append(parameters)
        return EntrypointExecutor(parameters)

    def wants_context(job: Job, *, around: Context) -> None: ...

    options: dict[str, Any] = {"queue": "mail", "on_failure": "hold", "store_result": True, "keep_history": False}
    application.entrypoint("fetch", executor_factory=factory, **options)(wants_context)

    (parameters,) = given
    assert (parameters.name, parameters.func) == ("fetch", wants_context)
    assert parameters.call == JobCall(wants_context, "around")
    assert {name: getattr(parameters, name) for name in options} == options


@pytest.mark.parametrize(("option", "hint"), [("retries", "retry"), ("color", "known: ")])
def test_an_unknown_option_is_refused_with_a_hint(option: str, hint: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError, match=f"no option '{option}'.*{hint}"):
        PgQueuer.in_memory().entrypoint("fetch", **options)


@pytest.mark.parametrize(
    ("option", "hint"), [("dedup_key", "mean 'dedupe_key'"), ("color", "known: priority, .*dedupe_key.*queue")]
)
def test_an_unknown_option_of_a_task_is_refused_with_those_of_its_jobs(option: str, hint: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError, match=f"no option '{option}'.*{hint}") as refused:
        PgQueuer.in_memory().task("fetch", **options)(handler)
    assert "accepts_context" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "hint"), [("timezon", "did you mean 'timezone'"), ("payload", "known: timezone, "), ("max_payload", "known: ")]
)
def test_an_option_that_schedules_do_not_have_is_refused(option: str, hint: str) -> None:
    pgq, options = PgQueuer.in_memory(), cast(Any, {option: 1})
    with pytest.raises(TypeError, match=f"no option '{option}'; .*{hint}"):
        pgq.schedule("fetch", "* * * * *", **options)
    assert pgq.registry.names() == ()


@pytest.mark.parametrize("option", ["clean_old", "max_payload", "timeout"])
def test_an_option_that_schedules_at_run_time_do_not_have_is_refused(option: str) -> None:
    pgq, options = PgQueuer.in_memory(), cast(Any, {option: 1})
    with pytest.raises(TypeError, match=f"no option '{option}'; "):
        pgq.schedules.add("fetch", "* * * * *", **options)
    assert pgq.schedules.list() == []


def test_the_executor_is_called_in_place_of_the_function(either: PgQueuer) -> None:
    @either.entrypoint("fetch", executor_factory=Named, store_result=True)
    def never(job: Job) -> None:
        raise AssertionError("the executor should have been called")

    job_id = either.enqueue("fetch")
    assert either.drain().counts == {"succeeded": 1}
    record = either.jobs.get(job_id)
    assert record is not None
    assert record.result == ["fetch", job_id, True]


def test_retries_are_put_around_an_executor_of_ones_own(either: PgQueuer) -> None:
    class FailsOnce(EntrypointExecutor):
        def execute(self, job: Job, context: Context) -> Any:
            if job.attempt == 1:
                raise ValueError("at first")
            return super().execute(job, context)

    at_once = DatabaseRetry(initial_delay=timedelta())
    either.entrypoint("fetch", executor_factory=FailsOnce, retry=at_once)(handler)
    either.enqueue("fetch")
    assert either.drain().counts == {"retried": 1, "succeeded": 1}


def test_an_executor_factory_that_returns_something_else_is_refused(application: PgQueuer) -> None:
    with pytest.raises(TypeError, match=r"executor_factory of 'fetch' returned .*Job.*, which is no AbstractEntrypointExecutor"):
        application.entrypoint("fetch", executor_factory=lambda parameters: Job)(handler)  # type: ignore[arg-type,return-value]
    assert application.registry.names() == ()


def test_an_executor_must_say_how_it_executes(application: PgQueuer) -> None:
    class Silent(AbstractEntrypointExecutor):
        """Has no execute."""

    with pytest.raises(TypeError, match="execute"):
        application.entrypoint("fetch", executor_factory=Silent)(handler)


def test_jobs_go_to_the_queue_of_their_entrypoint_unless_another_is_named(either: PgQueuer) -> None:
    either.entrypoint("fetch", queue="mail")(handler)
    either.entrypoint("plain")(handler)

    alone = [either.enqueue("fetch"), either.enqueue("fetch", queue="urgent"), either.enqueue("plain"), either.enqueue("unknown")]
    batch = either.enqueue_many([NewJob(entrypoint="fetch"), NewJob(entrypoint="fetch", queue="urgent")])

    queues = {record.id: record.queue for record in either.jobs.find()}
    assert [queues[job_id] for job_id in alone] == ["mail", "urgent", "default", "default"]
    assert [queues[job_id] for job_id in batch] == ["mail", "urgent"]


def test_a_worker_of_one_queue_takes_the_jobs_of_the_entrypoint_that_was_declared_with_it(either: PgQueuer) -> None:
    either.entrypoint("fetch", queue="mail")(handler)
    either.enqueue("fetch")
    assert either.drain(queues=["default"]).counts == {}
    assert either.drain(queues=["mail"]).counts == {"succeeded": 1}
