-- name: enqueue_one
-- Enqueues one job and tells the listening workers, if it is due soon; no row comes back where its dedupe key is taken, and
-- enqueue_many then resolves the conflict. Nothing but values: each further step of the plan would be a job's latency. So
-- it is in passing that the trigger is spared what this statement tells itself, in a third of the time.
insert into {job} (entrypoint, payload, priority, execute_after, created_at, dedupe_key, dedupe_until, headers, queue)
values (
    %(entrypoint)s::text, %(payload)s::bytea, %(priority)s::smallint,
    greatest(
        coalesce(%(due_at)s::timestamptz, coalesce(%(now)s::timestamptz, statement_timestamp()) + %(delay)s::float8 * interval '1 second'),
        coalesce(%(now)s::timestamptz, statement_timestamp())
    ),
    coalesce(%(now)s::timestamptz, statement_timestamp()),
    %(dedupe_key)s::text, %(dedupe_until)s::text, %(headers)s::text::jsonb,
    case when set_config('pgq_sync.told', statement_timestamp()::text, true) is not null then %(queue)s::text end
)
on conflict (dedupe_key) where dedupe_key is not null and dedupe_until is not null do nothing
returning id, case when %(notify)s::boolean and execute_after <= created_at + interval '60 seconds' then
    pg_notify({channel}(), json_build_array(id, 1, json_build_array(json_build_array(
        queue, entrypoint, priority, round(extract(epoch from execute_after - created_at)::numeric + 0.000499, 3),
        extract(epoch from execute_after))))::text)::text end

-- name: enqueue_batch
-- Enqueues a batch of jobs without dedupe keys, and tells the listening workers of its lanes that are due soon; the ids come
-- back in input order. The lanes are given apart: to find them among the rows takes longer than to insert a fifth of them.
with clock as materialized (
    -- What this statement tells, the trigger need not.
    select set_config('pgq_sync.told', statement_timestamp()::text, true) as told,
           coalesce(%(now)s::timestamptz, statement_timestamp()) as now
), told as materialized (
    select {announce}(%(number)s::bigint, sum(jobs)::bigint, array_agg(queue), array_agg(entrypoint), array_agg(priority),
                      array_agg(due), max(now))::text
    from (
        select lane.*, now, greatest(least(due_at, now + delay * interval '1 second'), now) as due
        from clock, unnest(%(lane_queues)s::text[], %(lane_entrypoints)s::text[], %(lane_priorities)s::smallint[],
                           %(lane_jobs)s::bigint[], %(lane_due_at)s::timestamptz[], %(lane_delays)s::float8[])
            as lane(queue, entrypoint, priority, jobs, due_at, delay)
    ) as lane
    where %(notify)s::boolean and due <= now + interval '60 seconds'
    having count(*) > 0
)
insert into {job} (entrypoint, payload, priority, execute_after, created_at, headers, queue)
select entrypoint, payload, priority,
       greatest(coalesce(due_at, clock.now + delay * interval '1 second'), clock.now), clock.now, headers::jsonb, queue
from clock, (select count(*) from told) as announced,
     unnest(%(entrypoints)s::text[], %(payloads)s::bytea[], %(priorities)s::smallint[], %(due_at)s::timestamptz[],
            %(delays)s::float8[], %(headers)s::text[], %(queues)s::text[]) with ordinality
     as given(entrypoint, payload, priority, due_at, delay, headers, queue, n)
where clock.told is not null
order by n
returning id

-- name: enqueue_many
-- Enqueues a batch under dedupe keys: one row per job, in input order, or the one that is in the way.
-- `wake` tells the trigger whether this statement may notify.
with wake as materialized (select set_config('pgq_sync.notify', case when %(notify)s::boolean then '' else 'off' end, true) as notify)
select enqueued.job_id, enqueued.conflict, enqueued.ordinal
from wake, lateral {enqueue_many}(
    %(entrypoints)s::text[], %(payloads)s::bytea[], %(priorities)s::smallint[],
    (select array_agg(coalesce(due_at, coalesce(%(now)s::timestamptz, statement_timestamp()) + delay * interval '1 second') order by n)
     from unnest(%(due_at)s::timestamptz[], %(delays)s::float8[]) with ordinality as due(due_at, delay, n)),
    %(dedupe_keys)s::text[], %(dedupe_untils)s::text[], %(headers)s::text[], %(queues)s::text[],
    %(on_conflict)s::text, %(now)s::timestamptz) as enqueued
where wake.notify is not null
order by enqueued.ordinal
