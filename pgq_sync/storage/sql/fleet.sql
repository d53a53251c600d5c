-- name: register
-- A worker's first sign of life; again after its row was lost.
insert into {worker} (worker_id, name, host, pid, version, queues, entrypoints, slots, state, started_at, beat_at)
values (%(worker_id)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(queues)s, %(entrypoints)s, %(slots)s, %(state)s,
        coalesce(%(now)s::timestamptz, statement_timestamp()), coalesce(%(now)s::timestamptz, statement_timestamp()))
on conflict (worker_id) do update set state = excluded.state, beat_at = excluded.beat_at

-- name: beat
-- A worker's sign of life, and its place among the living workers that serve the same: how many there are, and how
-- many of them come before it. No row comes back where the worker is not registered.
with mine as (
    update {worker} set beat_at = coalesce(%(now)s::timestamptz, statement_timestamp()), state = %(state)s
    where worker_id = %(worker_id)s
    returning worker_id, queues, entrypoints
)
select count(*) filter (where peer.worker_id < mine.worker_id), count(*) filter (where peer.worker_id <> mine.worker_id) + 1
from mine left join {worker} as peer
    on peer.queues is not distinct from mine.queues and peer.entrypoints = mine.entrypoints and peer.state = 'running'
   and peer.beat_at > coalesce(%(now)s::timestamptz, statement_timestamp()) - %(liveness)s::float8 * interval '1 second'
group by mine.worker_id

-- name: deregister
-- Forgets a worker that has stopped.
delete from {worker} where worker_id = %(worker_id)s

-- name: workers
-- The registered workers, in the order in which they started.
select worker_id, name, host, pid, version, queues, entrypoints, slots, state, started_at, beat_at
from {worker} order by started_at, worker_id
