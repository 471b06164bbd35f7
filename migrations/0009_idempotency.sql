-- Answers to requests that were sent with an `Idempotency-Key`, so that a repetition gets the first
-- answer again instead of doing the work twice.
--
-- For what is one transaction, the row is written in that transaction: both are there or neither. An
-- apply is not one: its row is committed first, with what the ids of its attempts are made from and a
-- lease that its portal renews, and gets its answer at the end. Rows live for 24 h.
create table idempotency_key (
    -- Keys belong to whoever sends them.
    actor text not null,
    key text not null constraint idempotency_key_key_check
        check (octet_length(key) between 1 and 255),
    -- SHA-256 of method, path, query, body and the headers that change the meaning.
    fingerprint bytea not null constraint idempotency_key_fingerprint_check
        check (octet_length(fingerprint) = 32),
    -- Of an apply: the ids of its attempts follow from this and the PBX.
    attempt_root uuid,
    -- Until when its portal is taken to live. Null: it is answered, or is one transaction.
    lease_until timestamptz,
    -- Null: not answered yet.
    status integer constraint idempotency_key_status_check check (status between 100 and 599),
    location text,
    etag text,
    -- The body. It may hold a SIP password.
    answer_encrypted bytea,
    created_at timestamptz not null,
    constraint idempotency_key_pkey primary key (actor, key),
    constraint idempotency_key_answer_check check (
        (status is null) = (answer_encrypted is null)
    )
);

-- What is too old is removed in passing.
create index idempotency_key_created_idx on idempotency_key (created_at);

-- The audit trail and the events in pages: by time, by what they are filtered by, and by parts of
-- their words.
create index apply_started_at_idx on apply (started_at, apply_id);
create index apply_pbx_started_at_idx on apply (pbx_id, started_at, apply_id);
create index apply_outcome_idx on apply (outcome, started_at, apply_id);
create index apply_requested_by_idx on apply (requested_by, started_at, apply_id);
create index apply_search_idx on apply using gin (
    (requested_by || ' ' || request_id || ' ' || coalesce(failure_message, '')) gin_trgm_ops
) with (fastupdate = off);
create index pbx_event_at_idx on pbx_event (at, event_id);
create index pbx_event_pbx_idx on pbx_event (pbx_id, event_id);
create index pbx_event_of_kind_idx on pbx_event (kind, event_id);
create index pbx_event_requested_by_idx on pbx_event (requested_by, event_id)
    where requested_by is not null;
create index pbx_event_search_idx on pbx_event using gin (detail gin_trgm_ops)
    with (fastupdate = off);
