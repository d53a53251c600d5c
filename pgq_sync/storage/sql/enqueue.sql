-- name: enqueue_one
-- Enqueues one job; no row comes back where its dedupe key is taken, and enqueue_many then resolves the conflict.
-- Nothing but values: each further step of the plan would be a job's latency. So what tells the trigger whether this
-- statement may notify is said in passing.
insert into {job} (entrypoint, payload, priority, execute_after, created_at, dedupe_key, dedupe_until, headers, queue)
values (
    %(entrypoint)s::text, %(payload)s::bytea, %(priority)s::smallint,
    greatest(
        coalesce(%(due_at)s::timestamptz, coalesce(%(now)s::timestamptz, statement_timestamp()) + %(delay)s::float8 * interval '1 second'),
        coalesce(%(now)s::timestamptz, statement_timestamp())
    ),
    coalesce(%(now)s::timestamptz, statement_timestamp()),
    %(dedupe_key)s::text, %(dedupe_until)s::text, %(headers)s::text::jsonb,
    case when set_config('pgq_sync.notify', %(notify)s, true) is not null then %(queue)s::text end
)
on conflict (dedupe_key) where dedupe_key is not null and dedupe_until is not null do nothing
returning id

-- name: enqueue_batch
-- Enqueues a batch of jobs without dedupe keys; the ids come back in input order.
-- `wake` tells the trigger whether this statement may notify.
with wake as materialized (select set_config('pgq_sync.notify', %(notify)s, true) as notify)
insert into {job} (entrypoint, payload, priority, execute_after, created_at, headers, queue)
select entrypoint, payload, priority,
       greatest(coalesce(due_at, clock.now + delay * interval '1 second'), clock.now), clock.now, headers::jsonb, queue
from wake, (select coalesce(%(now)s::timestamptz, statement_timestamp()) as now) as clock,
     unnest(%(entrypoints)s::text[], %(payloads)s::bytea[], %(priorities)s::smallint[], %(due_at)s::timestamptz[],
            %(delays)s::float8[], %(headers)s::text[], %(queues)s::text[]) with ordinality
     as given(entrypoint, payload, priority, due_at, delay, headers, queue, n)
where wake.notify is not null
order by n
returning id

-- name: enqueue_many
-- Enqueues a batch under dedupe keys: one row per job, in input order, or the one that is in the way.
with wake as materialized (select set_config('pgq_sync.notify', %(notify)s, true) as notify)
select enqueued.job_id, enqueued.conflict, enqueued.ordinal
from wake, lateral {enqueue_many}(
    %(entrypoints)s::text[], %(payloads)s::bytea[], %(priorities)s::smallint[],
    (select array_agg(coalesce(due_at, coalesce(%(now)s::timestamptz, statement_timestamp()) + delay * interval '1 second') order by n)
     from unnest(%(due_at)s::timestamptz[], %(delays)s::float8[]) with ordinality as due(due_at, delay, n)),
    %(dedupe_keys)s::text[], %(dedupe_untils)s::text[], %(headers)s::text[], %(queues)s::text[],
    %(on_conflict)s::text, %(now)s::timestamptz) as enqueued
where wake.notify is not null
order by enqueued.ordinal
