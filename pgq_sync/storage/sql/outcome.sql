-- name: finish
-- Moves finished jobs to history, those only that this worker still holds under the given fences.
with outcome as (
    select * from unnest(%(ids)s::bigint[], %(statuses)s::text[], %(results)s::text[], %(errors)s::text[], %(keep)s::boolean[])
        as outcome(id, status, result, error, keep)
), mine as materialized (
    -- Locked first and by these conditions: checking here and deleting by id alone would delete another worker's job.
    -- A row that somebody else has locked is skipped, and delays nobody but itself. Only running rows have a worker
    -- and a fence; "is not distinct from" keeps the planner from the index of running jobs, which after some hours
    -- without a vacuum holds a dead entry for every job that this worker has finished.
    select id from {job}
    where id = any(%(ids)s::bigint[]) and worker_id is not distinct from %(worker_id)s and fence = any(%(fences)s::bigint[])
    for update skip locked
), gone as (
    delete from {job} where id = any(array(select id from mine)) returning *
), kept as (
    insert into {history} (id, finished_at, execute_after, created_at, claimed_at, fence, requeued_from, attempts, priority,
                           worker_id, status, queue, entrypoint, dedupe_key, dedupe_until, payload, headers, errors, result)
    select gone.id, coalesce(%(now)s::timestamptz, statement_timestamp()), gone.execute_after, gone.created_at, gone.claimed_at,
           gone.fence, gone.requeued_from, gone.attempt, gone.priority, gone.worker_id, outcome.status, gone.queue,
           gone.entrypoint, gone.dedupe_key, gone.dedupe_until, gone.payload, gone.headers,
           case when outcome.error is null then gone.errors else coalesce(gone.errors, '[]') || outcome.error::jsonb end,
           outcome.result::json
    from gone join outcome using (id)
    where outcome.keep
), told as (
    -- Mostly nobody waits for any of them: then this is a look into an index that is empty, or far from their ids.
    select {announce_ended}('ended', array_agg(distinct job_id)) from {watch}
    where job_id = any(array(select id from gone))
    having count(*) > 0
)
select gone.id from gone, (select count(*) from told) as announced

-- name: hold
-- Locks a job that this worker still holds under the given fences, and waits for whoever has it locked: the handler's
-- transaction, in which "finish" follows, cannot leave it for later. No row comes back where the claim is lost.
select id from {job}
where id = any(%(ids)s::bigint[]) and worker_id is not distinct from %(worker_id)s and fence = any(%(fences)s::bigint[])
for update

-- name: put_back
-- Ends attempts that do not finish their job: a retry or a hold counts as an attempt and is kept in errors; a release
-- (of a job that never started) does not count. Told to the listening workers where jobs become due by it.
with outcome as (
    select * from unnest(%(ids)s::bigint[], %(statuses)s::text[], %(delays)s::float8[], %(errors)s::text[], %(attempts)s::integer[])
        as outcome(id, status, delay, error, attempts)
), mine as materialized (
    select id from {job}
    where id = any(%(ids)s::bigint[]) and worker_id is not distinct from %(worker_id)s and fence = any(%(fences)s::bigint[])
    for update skip locked
), changed as (
    update {job} as job
    set status = outcome.status, worker_id = null, fence = null, claimed_at = null, attempt = job.attempt - outcome.attempts,
        -- A release keeps the job's place in its lane.
        execute_after = case when outcome.delay is null then job.execute_after
            else coalesce(%(now)s::timestamptz, statement_timestamp()) + outcome.delay * interval '1 second' end,
        -- A job that is put back a hundred times keeps its latest hundred errors.
        errors = case when outcome.error is null then job.errors
            when jsonb_array_length(job.errors) >= 100 then (job.errors - 0) || outcome.error::jsonb
            else coalesce(job.errors, '[]') || outcome.error::jsonb end
    from outcome
    where job.id = any(array(select id from mine)) and outcome.id = job.id
    returning job.id, job.queue, job.entrypoint, job.priority, job.status, job.execute_after, job.rescues
), due as (
    select * from changed
    where status = 'queued' and execute_after <= coalesce(%(now)s::timestamptz, statement_timestamp()) + interval '60 seconds'
), told as (
    select {announce}(max(id), count(*), array_agg(queue), array_agg(entrypoint), array_agg(priority), array_agg(execute_after),
                      %(now)s::timestamptz)
    from (
        select max(id) as id, queue, entrypoint, priority, min(execute_after) as execute_after
        from due where rescues < 2 group by queue, entrypoint, priority
    ) as lane
    having count(*) > 0
), suspected as (
    -- What is in quarantine, no claim of a lane would find: everybody looks everywhere.
    select pg_notify({channel}(), json_build_array(max(id), count(*))::text) from due where rescues >= 2 having count(*) > 0
), held as (
    select {announce_ended}('ended', array_agg(distinct job_id)) from {watch}
    where job_id = any(array(select id from changed where status = 'held'))
    having count(*) > 0
)
select changed.id
from changed, (select count(*) from told) as announced, (select count(*) from suspected) as also_announced,
     (select count(*) from held) as announced_to_watchers

-- name: still_running
-- Which of these jobs this worker still holds under the given fences: locked by somebody when a write skipped them.
select id from {job}
where id = any(%(ids)s::bigint[]) and worker_id is not distinct from %(worker_id)s and fence = any(%(fences)s::bigint[])

-- name: in_history
-- Which of these jobs are finished under the given fences: an earlier write whose answer was lost had succeeded.
select id from {history}
where id = any(%(ids)s::bigint[]) and worker_id = %(worker_id)s and fence = any(%(fences)s::bigint[])

-- name: written_before
-- Which of these jobs, held by this worker no longer, look as an earlier write whose answer was lost has left them:
-- gone where they were to be finished, without a trace in history (it may keep none), else waiting with no further rescue.
select given.id
from unnest(%(ids)s::bigint[], %(rescues)s::integer[], %(finished)s::boolean[]) as given(id, rescues, finished)
left join {job} as job using (id)
where case when given.finished then job.id is null and not exists (select from {history} as known where known.id = given.id)
           else job.status in ('queued', 'held') and job.rescues = given.rescues end

-- name: maintain
-- Makes the coming days' partitions of history and drops those past the retention (in seconds).
select made, dropped from {maintain}(%(now)s::timestamptz, %(retention)s::float8 * interval '1 second')
