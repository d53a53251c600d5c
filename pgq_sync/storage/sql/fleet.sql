-- name: register
-- A worker's first sign of life; again after its row was lost.
insert into {worker} (worker_id, name, host, pid, version, queues, entrypoints, slots, state, liveness_limit, started_at, beat_at)
values (%(worker_id)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(queues)s, %(entrypoints)s, %(slots)s, %(state)s,
        %(liveness_limit)s::float8 * interval '1 second',
        coalesce(%(now)s::timestamptz, statement_timestamp()), coalesce(%(now)s::timestamptz, statement_timestamp()))
on conflict (worker_id) do update
set state = excluded.state, liveness_limit = excluded.liveness_limit, beat_at = excluded.beat_at

-- name: beat
-- A worker's sign of life, and its place among the living workers that serve the same: how many there are, and how
-- many of them come before it; for how many seconds it was silent itself; and in how many the most silent of all others
-- will have been silent for too long. No row comes back where the worker is not registered.
with before as materialized (
    select beat_at from {worker} where worker_id = %(worker_id)s
), mine as (
    update {worker} set beat_at = coalesce(%(now)s::timestamptz, statement_timestamp()), state = %(state)s,
                        liveness_limit = %(liveness_limit)s::float8 * interval '1 second'
    where worker_id = %(worker_id)s
    returning worker_id, queues, entrypoints, beat_at
)
select count(*) filter (where peer.worker_id < mine.worker_id), count(*) filter (where peer.worker_id <> mine.worker_id) + 1,
       (select extract(epoch from max(mine.beat_at) - beat_at)::float8 from before),
       (select extract(epoch from min(other.beat_at + other.liveness_limit) - max(mine.beat_at))::float8
        from {worker} as other, mine where other.worker_id <> mine.worker_id)
from mine left join {worker} as peer
    on peer.queues is not distinct from mine.queues and peer.entrypoints = mine.entrypoints and peer.state = 'running'
   and peer.beat_at > mine.beat_at - peer.liveness_limit
group by mine.worker_id

-- name: forsaken
-- Whether a thorough rescue would find anybody: a worker that has been silent for too long, or jobs of one that is not
-- registered. Mostly there is nobody, and an idle fleet is spared the rescue's transaction.
with moment as materialized (
    select coalesce(%(now)s::timestamptz, statement_timestamp()) as now
)
select exists (
    select from moment, {worker} as other
    where other.worker_id <> %(worker_id)s and other.beat_at <= now - other.liveness_limit
) or exists (
    select from moment, {job} as job
    where job.status = 'running' and job.claimed_at <= now - %(liveness_limit)s::float8 * interval '1 second'
      and not exists (select from {worker} as known where known.worker_id = job.worker_id)
)

-- name: rescue
-- Puts back what dead workers had claimed, and forgets those that have nothing left; one row for each that is dead.
-- With `thorough` also what was claimed by workers that are not registered at all.
with moment as materialized (
    select coalesce(%(now)s::timestamptz, statement_timestamp()) as now
), silent as materialized (
    select other.worker_id, other.name, other.beat_at <= now - interval '10 minutes' as given_up
    from moment, {worker} as other
    where other.worker_id <> %(worker_id)s and other.beat_at <= now - other.liveness_limit
    union all
    select job.worker_id, job.worker_id::text, false
    from moment, {job} as job
    where %(thorough)s::boolean and job.status = 'running' and job.claimed_at <= now - %(liveness_limit)s::float8 * interval '1 second'
      and not exists (select from {worker} as known where known.worker_id = job.worker_id)
    group by job.worker_id
), dead as materialized (
    -- A worker's listening session holds this lock as long as it lives, whatever keeps the process from beating.
    select worker_id, name from silent
    where case when given_up then true else pg_try_advisory_xact_lock(hashtextextended(worker_id::text, 0)) end
      -- Nobody is shot by one whose own beat is old: he may have been paused since.
      and exists (select from moment, {worker} as mine
                  where mine.worker_id = %(worker_id)s and mine.beat_at > now - mine.liveness_limit)
), orphan as materialized (
    select id from {job}
    where status = 'running' and (select count(*) from dead) > 0 and worker_id = any(array(select worker_id from dead))
    for update skip locked
), changed as (
    update {job} as job
    -- An attempt that its worker's death cut off is not counted: a job is rescued only so often anyway.
    set status = 'queued', worker_id = null, fence = null, claimed_at = null, attempt = attempt - 1,
        rescues = least(rescues + 1, 32767),
        errors = case when jsonb_array_length(errors) >= 100 then errors - 0 else coalesce(errors, '[]') end
            || jsonb_build_object('attempt', attempt, 'type', 'WorkerDied', 'worker_id', dead.worker_id,
                                  'message', format('worker %%s gave no sign of life any more', dead.name))
    from dead
    where job.id = any(array(select id from orphan)) and dead.worker_id = job.worker_id
    returning job.id, dead.worker_id
), told as (
    -- Everybody looks everywhere: what is in quarantine by now, no claim of a lane would find.
    select pg_notify({channel}(), json_build_array(0, count(*))::text) from changed having count(*) > 0
), gone as materialized (
    -- Unless it beats right now, or another rescuer forgets it.
    select worker.worker_id
    from moment, {worker} as worker
    where worker.worker_id = any(array(select worker_id from dead)) and worker.beat_at <= now - worker.liveness_limit
      and not exists (select from {job} as job where job.status = 'running' and job.worker_id = worker.worker_id)
    for update of worker skip locked
), forgotten as (
    delete from {worker} where worker_id = any(array(select worker_id from gone))
)
select dead.name, count(changed.id)
from dead left join changed using (worker_id), (select count(*) from told) as announced
group by dead.name

-- name: deregister
-- Forgets a worker that has stopped. It never waits for the jobs' table: somebody may have locked it for long.
delete from {worker} where worker_id = %(worker_id)s

-- name: give_up
-- A worker that has stopped and may have left claimed jobs behind: others take it for dead at once.
update {worker} set state = 'stopping', beat_at = '0001-01-02' where worker_id = %(worker_id)s

-- name: workers
-- The registered workers, in the order in which they started.
select worker_id, name, host, pid, version, queues, entrypoints, slots, state, liveness_limit, started_at, beat_at
from {worker} order by started_at, worker_id
