-- name: database_now
-- What the database's clock says.
select coalesce(%(now)s::timestamptz, statement_timestamp())

-- name: declare_schedule
-- Notes a schedule; one that is there already keeps when it is due next, unless its time zone has changed, when it last
-- ran, and its pause. No row comes back where nothing has changed.
insert into {schedule} as known
       (name, expression, timezone, entrypoint, queue, priority, payload, on_missed, jitter, next_at, last_at, paused_at)
values (%(name)s::text, %(expression)s::text, %(timezone)s::text, %(entrypoint)s::text, %(queue)s::text,
        %(priority)s::smallint, %(payload)s::bytea, %(on_missed)s::text, make_interval(secs => %(jitter)s::float8),
        %(next_at)s::timestamptz, %(last_at)s::timestamptz, %(paused_at)s::timestamptz)
on conflict (name, expression) do update
set timezone = excluded.timezone, entrypoint = excluded.entrypoint, queue = excluded.queue, priority = excluded.priority,
    payload = excluded.payload, on_missed = excluded.on_missed, jitter = excluded.jitter,
    next_at = case when known.timezone = excluded.timezone then known.next_at else excluded.next_at end
-- Workers declare the same again and again: what is the same already is not written.
where (known.timezone, known.entrypoint, known.queue, known.priority, known.payload, known.on_missed, known.jitter)
      is distinct from (excluded.timezone, excluded.entrypoint, excluded.queue, excluded.priority, excluded.payload,
                        excluded.on_missed, excluded.jitter)
returning 1

-- name: lock_name
-- Has those who declare schedules of one name do so one after the other: each may remove what another adds, which no lock
-- on the rows that there are would keep apart. Nobody else waits for it.
select pg_advisory_xact_lock(hashtextextended({channel}() || %(name)s::text, 0))

-- name: lock_schedules
-- Locks what there is of a name, in one order, as those do who pause, resume or remove several.
select 1 from {schedule} where name = %(name)s::text order by expression for update

-- name: replace_schedules
-- Removes the expressions of a name that are not among the given ones, and tells how they stood.
delete from {schedule}
where name = %(name)s::text and expression <> all(%(expressions)s::text[])
returning name, entrypoint, expression, timezone, queue, priority, on_missed, extract(epoch from jitter)::float8,
          next_at, last_at, paused_at, payload

-- name: schedules_changed
-- Has every worker see to the schedules.
select pg_notify({channel}(), '[0, 0, [], "schedules"]')

-- name: next_schedule
-- In how many seconds the next schedule is due that this worker serves; null if none is. What it has put aside is left out.
select extract(epoch from min(next_at) - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8
from {schedule} as known
where paused_at is null and entrypoint = any(%(entrypoints)s::text[])
  and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
  and not exists (
      select from unnest(%(names)s::text[], %(expressions)s::text[], %(zones)s::text[]) as aside(name, expression, timezone)
      where (aside.name, aside.expression, aside.timezone) = (known.name, known.expression, known.timezone)
  )

-- name: due_schedules
-- The due ones among those, locked, so that no other scheduler fires the same tick; and the time. The table has no index
-- on next_at: a tick then rewrites no index, and there are few rows.
select name, entrypoint, expression, timezone, queue, priority, on_missed, extract(epoch from jitter)::float8,
       next_at, last_at, paused_at, payload, coalesce(%(now)s::timestamptz, statement_timestamp())
from {schedule} as known
where paused_at is null and entrypoint = any(%(entrypoints)s::text[])
  and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
  and next_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
  and not exists (
      select from unnest(%(names)s::text[], %(expressions)s::text[], %(zones)s::text[]) as aside(name, expression, timezone)
      where (aside.name, aside.expression, aside.timezone) = (known.name, known.expression, known.timezone)
  )
order by next_at, name, expression
limit %(most)s::integer
for update skip locked

-- name: advance_schedules
-- Moves schedules on from ticks whose jobs are enqueued in the same transaction. Without a last_at none was.
update {schedule} as known
set last_at = coalesce(given.last_at, known.last_at), next_at = given.next_at
from unnest(%(names)s::text[], %(expressions)s::text[], %(last_at)s::timestamptz[], %(next_at)s::timestamptz[])
     as given(name, expression, last_at, next_at)
where known.name = given.name and known.expression = given.expression

-- name: schedules
-- The schedules of a name, or all.
select name, entrypoint, expression, timezone, queue, priority, on_missed, extract(epoch from jitter)::float8,
       next_at, last_at, paused_at, payload
from {schedule}
where %(name)s::text is null or name = %(name)s::text
order by name, expression collate "C"

-- name: pause_schedules
-- Pauses those that are not paused yet.
with known as materialized (
    -- In one order, so that nobody who locks several waits for somebody who waits for him.
    select expression from {schedule} where name = %(name)s::text and expression = any(%(expressions)s::text[])
    order by expression for update
)
update {schedule} set paused_at = coalesce(%(now)s::timestamptz, statement_timestamp())
where name = %(name)s::text and expression = any(array(select expression from known)) and paused_at is null
returning 1

-- name: paused_schedules
-- Those that are paused, locked; and the time.
select name, entrypoint, expression, timezone, queue, priority, on_missed, extract(epoch from jitter)::float8,
       next_at, last_at, paused_at, payload, coalesce(%(now)s::timestamptz, statement_timestamp())
from {schedule}
where name = %(name)s::text and expression = any(%(expressions)s::text[]) and paused_at is not null
order by expression
for update

-- name: resume_schedules
-- Takes the pauses back. A pause has swallowed what it covered: next_at is the tick to go on with.
update {schedule} as known set paused_at = null, next_at = given.next_at
from unnest(%(expressions)s::text[], %(next_at)s::timestamptz[]) as given(expression, next_at)
where known.name = %(name)s::text and known.expression = given.expression

-- name: remove_schedules
-- Forgets schedules.
with known as materialized (
    -- In one order, so that nobody who locks several waits for somebody who waits for him.
    select expression from {schedule} where name = %(name)s::text and expression = any(%(expressions)s::text[])
    order by expression for update
)
delete from {schedule} where name = %(name)s::text and expression = any(array(select expression from known)) returning 1
