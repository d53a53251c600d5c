-- name: lanes
-- The non-empty lanes, each with its earliest execute_after and in how many seconds that is: a loose index scan,
-- one probe of the ready index per lane, however many jobs wait in it.
with recursive lane as (
    (select queue, entrypoint, priority, execute_after
     from {job} where status = 'queued'
     order by queue, entrypoint, priority, execute_after limit 1)
    union all
    select following.queue, following.entrypoint, following.priority, following.execute_after
    from lane cross join lateral (
        select job.queue, job.entrypoint, job.priority, job.execute_after
        from {job} as job
        where job.status = 'queued'
          and (job.queue, job.entrypoint, job.priority) > (lane.queue, lane.entrypoint, lane.priority)
        order by job.queue, job.entrypoint, job.priority, job.execute_after limit 1
    ) as following
)
select queue, entrypoint, priority, execute_after,
       extract(epoch from execute_after - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8
from lane

-- name: channel
-- On which channel this installation notifies.
select {channel}()

-- name: claim
-- Claims due jobs of the given lanes, in the lanes' order, up to the room there is.
with picked as materialized (
    -- The join is lazy: the outer limit stops it, so that no row is locked that is not claimed.
    select ready.id
    from json_to_recordset(%(lanes)s::json) as lane(queue text, entrypoint text, priority smallint, bound timestamptz)
    cross join lateral (
        select job.id
        from {job} as job
        where job.status = 'queued'
          and job.queue = lane.queue and job.entrypoint = lane.entrypoint and job.priority = lane.priority
          and job.execute_after >= lane.bound
          and job.execute_after <= coalesce(%(now)s::timestamptz, statement_timestamp())
        order by job.execute_after, job.id
        limit %(room)s
        for update skip locked
    ) as ready
    limit %(room)s
)
-- By "any(array(...))" and not by a join: the planner then cannot choose to read the whole table.
update {job}
set status = 'running', attempt = attempt + 1, worker_id = %(worker_id)s, fence = %(fence)s,
    claimed_at = coalesce(%(now)s::timestamptz, statement_timestamp()),
    dedupe_until = nullif(dedupe_until, 'started')
where id = any(array(select id from picked))
returning id, queue, entrypoint, payload, headers, priority, attempt, execute_after, created_at, claimed_at,
          dedupe_key, worker_id, rescues
