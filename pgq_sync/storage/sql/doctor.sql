-- name: half_claimed
-- Jobs that are running without the signs of a claim, or bear those without running.
select format('job %%s is %%s, but its worker_id is %%s and its fence %%s', id, status, coalesce(worker_id::text, 'null'),
              coalesce(fence::text, 'null'))
from {job}
where case when status = 'running' then num_nulls(worker_id, fence, claimed_at) else num_nonnulls(worker_id, fence, claimed_at) end > 0
order by id limit 10

-- name: in_two_places
-- Jobs that are finished and unfinished at once.
select format('job %%s is %%s, and in history as %%s', job.id, job.status, history.status)
from {job} as job join {history} as history on history.id = job.id
order by job.id limit 10

-- name: finished_twice
-- Jobs that are in history twice; the last hour's.
select format('job %%s is %%s times in history', id, count(*))
from {history}
where finished_at > statement_timestamp() - interval '1 hour'
group by id having count(*) > 1
order by id limit 10

-- name: beyond_limit
-- Entrypoints of which more run than their limit allows. A limit that was lowered needs a while.
select format('%%s jobs of %%s run, its limit is %%s', running.jobs, entrypoint, concurrency_limit)
from {limit} join (
    select entrypoint, count(*) as jobs from {job} where status = 'running' group by entrypoint
) as running using (entrypoint)
where queue = '' and concurrency_limit > 0 and running.jobs > concurrency_limit

-- name: tokens_out_of_range
-- Buckets with more tokens than fit in, or fewer than none.
select format('the limit of %%s has %%s tokens in a bucket for %%s', entrypoint, round(tokens::numeric, 3), burst)
from {limit} where requests_per_second is not null and tokens not between -0.001 and burst + 0.001

-- name: days_without_partition
-- Whether finished jobs can be written today and tomorrow.
select format('history has no partition for %%s: `select * from %%s()` makes it', day::date, {maintain_literal})
from generate_series((statement_timestamp() at time zone 'UTC')::date, (statement_timestamp() at time zone 'UTC')::date + 1,
                     interval '1 day') as day
where not exists (
    select from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = {history_literal}::regclass and right(relname, 8) = to_char(day, 'YYYYMMDD')
)

-- name: silent_workers
-- Workers that have been silent for longer than they may.
select format('worker %%s has been silent for %%s s', name, round(extract(epoch from statement_timestamp() - beat_at)))
from {worker} where beat_at < statement_timestamp() - liveness_limit
order by beat_at limit 10

-- name: unknown_workers
-- Jobs that run under workers that are not registered.
select format('%%s jobs run under worker %%s, which is not registered', count(*), worker_id)
from {job} as job
where status = 'running' and not exists (select from {worker} as worker where worker.worker_id = job.worker_id)
group by worker_id order by worker_id limit 10

-- name: unheard_requests
-- Jobs that were asked to end long ago and still wait for a worker, or are gone.
select format('job %%s was asked to end %%s s ago', job_id, round(extract(epoch from statement_timestamp() - asked_at)))
from {cancel} left join {job} as job on job.id = job_id
where asked_at < statement_timestamp() - interval '5 minutes' and job.status is distinct from 'running'
order by asked_at limit 10

-- name: unserved_lanes
-- Jobs that wait, deferred ones too, and that no running worker serves; not those in quarantine.
with recursive lane as (
    (select queue, entrypoint from {job} where status = 'queued' and rescues < 2 order by queue, entrypoint limit 1)
    union all
    select following.queue, following.entrypoint
    from lane cross join lateral (
        select job.queue, job.entrypoint from {job} as job
        where job.status = 'queued' and job.rescues < 2 and (job.queue, job.entrypoint) > (lane.queue, lane.entrypoint)
        order by job.queue, job.entrypoint limit 1
    ) as following
)
select format('no worker serves %%s in queue %%s, where jobs wait', entrypoint, queue)
from lane
where not exists (
    select from {worker} as worker
    where worker.state = 'running' and lane.entrypoint = any(worker.entrypoints)
      and (worker.queues is null or lane.queue = any(worker.queues))
)
limit 10

-- name: unserved_schedules
-- Schedules that no running worker serves.
select format('no worker serves %%s in queue %%s, for which the schedule %%s (%%s) would fire', entrypoint, queue, name, expression)
from {schedule} as known
where paused_at is null and not exists (
    select from {worker} as worker
    where worker.state = 'running' and known.entrypoint = any(worker.entrypoints)
      and (worker.queues is null or known.queue = any(worker.queues))
)
order by name, expression limit 10

-- name: overdue_schedules
-- Schedules whose tick is so late that it counts as missed.
select format('the schedule %%s (%%s) has been due for %%s s', name, expression,
              round(extract(epoch from statement_timestamp() - next_at)))
from {schedule}
where paused_at is null and next_at < statement_timestamp() - %(misfire_grace)s::float8 * interval '1 second'
order by next_at limit 10

-- name: long_transactions
-- Sessions that hold back vacuum: as long as they do, what a queue deletes stays in its tables.
select format('process %%s (%%s, %%s) has held back vacuum for %%s s', pid, usename, coalesce(nullif(application_name, ''), backend_type),
              round(extract(epoch from statement_timestamp() - xact_start)))
from pg_stat_activity
where backend_xmin is not null and pid <> pg_backend_pid() and xact_start < statement_timestamp() - interval '5 minutes'
order by xact_start limit 5
