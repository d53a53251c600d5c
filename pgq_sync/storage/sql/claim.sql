-- name: lanes
-- What there is to claim, in three kinds of rows. The non-empty lanes, each with the place of its first job (execute_after
-- and id) and in how many seconds that is due: a loose index scan, one probe of the ready index per lane, however many jobs
-- wait in it. The lanes of jobs in quarantine. And, with no priority, what is limited (true, since when, and to how many at
-- once) or paused (a time). The last row tells how many seconds all that has taken, and what time it was.
with recursive lane as (
    (select queue, entrypoint, priority, execute_after, id
     from {job} where status = 'queued' and rescues < 2
     order by queue, entrypoint, priority, execute_after, id limit 1)
    union all
    select following.queue, following.entrypoint, following.priority, following.execute_after, following.id
    from lane cross join lateral (
        select job.queue, job.entrypoint, job.priority, job.execute_after, job.id
        from {job} as job
        where job.status = 'queued' and job.rescues < 2
          and (job.queue, job.entrypoint, job.priority) > (lane.queue, lane.entrypoint, lane.priority)
        order by job.queue, job.entrypoint, job.priority, job.execute_after, job.id limit 1
    ) as following
), waiting as (
    select queue, entrypoint, priority, execute_after, id, false as flag from lane
    union all
    (select queue, entrypoint, priority, min(execute_after), null, true
     from {job} where status = 'queued' and rescues >= 2 group by queue, entrypoint, priority)
)
select queue, entrypoint, priority, execute_after, id,
       extract(epoch from execute_after - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8, flag, null::integer
from waiting
union all
select queue, entrypoint, null, paused_at, null, extract(epoch from declared_at)::float8,
       concurrency_limit > 0 or requests_per_second is not null, concurrency_limit
from {limit} where paused_at is not null or concurrency_limit > 0 or requests_per_second is not null
union all
select null, null, null, coalesce(%(now)s::timestamptz, statement_timestamp()), null,
       extract(epoch from clock_timestamp() - statement_timestamp())::float8, null, null

-- name: peek
-- What the given lanes hold from their bounds on: the place of the first job, and in how many seconds it is due.
select lane.queue, lane.entrypoint, lane.priority, job.execute_after, job.id,
       extract(epoch from job.execute_after - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8, false
from json_to_recordset(%(lanes)s::json)
    as lane(queue text, entrypoint text, priority smallint, bound timestamptz, bound_id bigint)
cross join lateral (
    select execute_after, id
    from {job} as job
    where job.status = 'queued' and job.rescues < 2
      and job.queue = lane.queue and job.entrypoint = lane.entrypoint and job.priority = lane.priority
      and (job.execute_after, job.id) >= (lane.bound, lane.bound_id)
    order by job.execute_after, job.id limit 1
) as job

-- name: channel
-- On which channel this installation notifies.
select {channel}()

-- name: claim
-- Claims due jobs of the given lanes, in the lanes' order, up to the room there is. Lanes that are limited by now are left
-- out, whatever the worker believes.
with picked as materialized (
    -- The join is lazy: the outer limit stops it, so that no row is locked that is not claimed.
    select ready.id
    from (
        select * from json_to_recordset(%(lanes)s::json)
            as lane(queue text, entrypoint text, priority smallint, bound timestamptz, bound_id bigint)
        -- Not by a join, which might change the lanes' order.
        where (select lim.concurrency_limit > 0 or lim.requests_per_second is not null
               from {limit} as lim where lim.entrypoint = lane.entrypoint and lim.queue = '') is not true
    ) as lane
    cross join lateral (
        select job.id
        from {job} as job
        where job.status = 'queued' and job.rescues < 2
          and job.queue = lane.queue and job.entrypoint = lane.entrypoint and job.priority = lane.priority
          and (job.execute_after, job.id) >= (lane.bound, lane.bound_id)
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
          dedupe_key, rescues

-- name: lock_limits
-- Locks the limits of these entrypoints for a claim. Whoever finds one locked leaves that entrypoint to the other.
select entrypoint from {limit} where queue = '' and entrypoint = any(%(entrypoints)s::text[])
order by entrypoint for update skip locked

-- name: claim_carefully
-- Claims due jobs of limited entrypoints, and of those in quarantine: from each of the given lanes, at most one per
-- entrypoint, as many as its limits leave. Their limits must be locked by an earlier statement of the same transaction:
-- in the same statement the count below would be older than the lock. A lane whose limit is not locked brings nothing. One
-- row per claim, and one for a lane without any; each with what the limits had allowed, and in how many seconds the next
-- token is there.
-- What runs is counted from running_since on: nothing that runs was claimed earlier, and before it lies an entry of the
-- index for each job that ever ran, until a vacuum may take it.
with moment as materialized (
    select coalesce(%(now)s::timestamptz, statement_timestamp()) as now
), given as materialized (
    select * from json_to_recordset(%(lanes)s::json)
        as lane(n integer, queue text, entrypoint text, priority smallint, quarantined boolean, locked boolean,
                bound timestamptz, bound_id bigint, room integer)
), refilled as materialized (
    select entrypoint, concurrency_limit, requests_per_second, refilled_at, case when requests_per_second is not null then
           least(burst, tokens + requests_per_second * greatest(extract(epoch from now - refilled_at)::float8, 0)) end as tokens,
           -- Where the clock was set back, jobs are claimed before it.
           case when running_since <= now then running_since end as running_since,
           -- A claim that began before there was a limit may not have been committed yet.
           coalesce(now - declared_at > interval '1 minute', true) as settled
    from moment, {limit}
    where queue = '' and entrypoint in (select entrypoint from given) and (concurrency_limit > 0 or requests_per_second is not null)
), lane as materialized (
    select given.*, refilled.tokens, refilled.requests_per_second, refilled.refilled_at, greatest(0, least(
               case when given.locked or refilled.entrypoint is null then given.room else 0 end,
               -- Just when a token is due the product may lie a hair below the whole number.
               floor(refilled.tokens + 1e-6),
               case when refilled.concurrency_limit > 0 then refilled.concurrency_limit - running.jobs end))::integer as allowed,
           -- Moved at most once a second: each time leaves a dead row behind.
           case when refilled.concurrency_limit > 0 and refilled.settled then
               case when refilled.running_since > least(running.oldest, now) - interval '1 second' then refilled.running_since
                    else least(running.oldest, now) end end as running_since
    from moment, given left join refilled using (entrypoint)
    cross join lateral (
        select count(*) as jobs, min(job.claimed_at) as oldest
        from {job} as job
        where refilled.concurrency_limit > 0 and job.status = 'running' and job.entrypoint = given.entrypoint
          and job.claimed_at >= coalesce(refilled.running_since, '-infinity')
    ) as running
), picked as materialized (
    select ready.id, lane.n
    from (select * from lane order by n) as lane
    cross join lateral (
        (select id from (
            select job.id from {job} as job
            where not lane.quarantined and job.status = 'queued' and job.rescues < 2
              and job.queue = lane.queue and job.entrypoint = lane.entrypoint and job.priority = lane.priority
              and (job.execute_after, job.id) >= (lane.bound, lane.bound_id)
              and job.execute_after <= coalesce(%(now)s::timestamptz, statement_timestamp())
            order by job.execute_after, job.id
            limit lane.allowed
            for update skip locked
        ) as normal)
        union all
        (select id from (
            select job.id from {job} as job
            where lane.quarantined and job.status = 'queued' and job.rescues >= 2
              and job.queue = lane.queue and job.entrypoint = lane.entrypoint and job.priority = lane.priority
              and job.execute_after <= coalesce(%(now)s::timestamptz, statement_timestamp())
            order by job.execute_after, job.id
            limit lane.allowed
            for update skip locked
        ) as quarantined)
    ) as ready
    limit %(room)s
), claimed as (
    update {job}
    set status = 'running', attempt = attempt + 1, worker_id = %(worker_id)s, fence = %(fence)s,
        claimed_at = coalesce(%(now)s::timestamptz, statement_timestamp()),
        dedupe_until = nullif(dedupe_until, 'started')
    where id = any(array(select id from picked))
    returning id, queue, entrypoint, payload, headers, priority, attempt, execute_after, created_at, claimed_at,
              dedupe_key, rescues
), took as materialized (
    select lane.n, lane.entrypoint, lane.tokens - count(picked.id) as tokens, lane.requests_per_second, lane.running_since,
           -- Where the clock was set back, the bucket fills from the new time on.
           lane.tokens is not null and (count(picked.id) > 0 or lane.refilled_at > now) as spends
    from moment, lane left join picked using (n)
    where lane.locked
    group by lane.n, lane.entrypoint, lane.tokens, lane.requests_per_second, lane.running_since, lane.refilled_at, now
), noted as (
    update {limit} as lim
    set tokens = case when took.spends then took.tokens else lim.tokens end,
        refilled_at = case when took.spends then now else lim.refilled_at end,
        running_since = took.running_since
    from moment, took
    where lim.queue = '' and lim.entrypoint = took.entrypoint
      and (took.spends or lim.running_since is distinct from took.running_since)
)
select lane.n, lane.allowed, greatest((1 - took.tokens) / took.requests_per_second, 0)::float8, claimed.*
from lane left join took using (n) left join picked using (n) left join claimed on claimed.id = picked.id
order by lane.n

-- name: own_session
-- Waits until no other session of this worker is left: what an earlier one had sent is committed then or never will be.
select pg_advisory_lock(hashtextextended(%(worker_id)s::uuid::text, 0))

-- name: end_other_sessions
-- Ends the sessions that still pass for this worker's, though their connection to it is lost. Another role's may not be
-- ended, and is a rescuer's, who looks for a moment whether the lock is free.
select pg_terminate_backend(pid)
from pg_locks join pg_stat_activity using (pid)
where usename = current_user and locktype = 'advisory' and granted and objsubid = 1 and pid <> pg_backend_pid()
  and database = (select oid from pg_database where datname = current_database())
  and (classid::bigint << 32) | objid::bigint = hashtextextended(%(worker_id)s::uuid::text, 0)

-- name: recover
-- Puts back what this worker has claimed without the answer having reached it: all that it holds but the given claims.
-- Tells which of those are still its own (true), and what is left claimed since somebody has it locked (false); or, if
-- there is neither, one row without an id.
with mine as materialized (
    select job.id, open.id is not null as known
    from {job} as job
    left join unnest(%(ids)s::bigint[], %(fences)s::bigint[]) as open(id, fence) on (open.id, open.fence) = (job.id, job.fence)
    where job.status = 'running' and job.worker_id = %(worker_id)s
), unheard as materialized (
    -- To wait for whoever has a row locked would keep the worker from claiming.
    select id from {job}
    where id = any(array(select id from mine where not known)) and worker_id is not distinct from %(worker_id)s
    for update skip locked
), changed as (
    update {job} as job
    set status = 'queued', worker_id = null, fence = null, claimed_at = null, attempt = job.attempt - 1
    where job.id = any(array(select id from unheard))
    returning job.id
), told as (
    select pg_notify({channel}(), json_build_array(0, count(*))::text) from changed having count(*) > 0
)
select mine.id, mine.known
-- In this order: beside no row of its own, the announcement would not be made.
from (select count(*) from told) as announced
left join mine on mine.known or mine.id <> all(array(select id from unheard))
