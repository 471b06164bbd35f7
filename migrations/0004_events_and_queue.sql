-- What happened to a PBX apart from applies, and applies that wait for their turn.

-- Events of the agent are numbered within each of its lives; the unique key makes every one of them
-- stand here once, however many portals watch. Events of the portals have no number.
create table pbx_event (
    -- Rises in the order of recording, so that lists are paged by it.
    event_id bigint generated always as identity constraint pbx_event_pkey primary key,
    pbx_id uuid not null constraint pbx_event_pbx_id_fkey references pbx,
    kind text not null constraint pbx_event_kind_check check (kind in (
        -- As the agent reports them.
        'drift_found', 'drift_ended', 'drift_overwritten', 'foreign_file_found',
        'foreign_file_gone', 'safe_mode_entered', 'safe_mode_left', 'certificate_expiring',
        'peer_refused',
        -- The portals' own.
        'agent_unreachable', 'agent_back', 'verify_requested'
    )),
    detail text not null,
    -- When it was noticed.
    at timestamptz not null,
    recorded_at timestamptz not null default now(),
    -- The life of whoever numbered it, and the number. Null: nobody did.
    instance text,
    sequence bigint,
    -- Who asked for it. Null: it happened by itself.
    requested_by text,
    request_id text,
    source_address text,
    constraint pbx_event_sequence_key unique (pbx_id, instance, sequence),
    constraint pbx_event_sequence_check check ((instance is null) = (sequence is null)),
    constraint pbx_event_request_check check (
        (requested_by is null) = (request_id is null)
        and (requested_by is null) = (source_address is null)
    )
);

-- Of each kind the newest are kept.
create index pbx_event_kind_idx on pbx_event (pbx_id, kind, event_id);

-- An apply that was accepted and waits for its turn: it becomes a row of table apply, under the same
-- id, in the transaction that removes it here. Its portal renews the lease for as long as it lives;
-- when the lease is over, any portal may end the apply as 'never_started'.
create table queued_apply (
    apply_id uuid constraint queued_apply_pkey primary key,
    pbx_id uuid not null constraint queued_apply_pbx_id_fkey references pbx,
    on_reload_failure text not null constraint queued_apply_on_reload_failure_check
        check (on_reload_failure in ('roll_back', 'keep_new_files')),
    requested_by text not null,
    request_id text not null,
    source_address text not null,
    started_at timestamptz not null,
    lease_until timestamptz not null
);
