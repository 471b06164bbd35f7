-- The audit trail of applies (FR-013): one row for each attempt, also for one that failed before it
-- reached the agent.
--
-- A row that goes to the agent is committed as 'started', with its revision and its bundle, before
-- anything is sent, and closed with what the agent reports. A row that is still 'started' although
-- nobody holds the PBX's lock lost its portal, its agent or its database: the reconciler asks the
-- agent and closes it with the truth.
create table apply (
    apply_id uuid constraint apply_pkey primary key,
    pbx_id uuid not null constraint apply_pbx_id_fkey references pbx,
    -- Null: ended before a bundle existed.
    revision bigint constraint apply_revision_check check (revision > 0),
    digest bytea constraint apply_digest_check check (octet_length(digest) = 32),
    on_reload_failure text not null constraint apply_on_reload_failure_check
        check (on_reload_failure in ('roll_back', 'keep_new_files')),
    outcome text not null constraint apply_outcome_check check (outcome in (
        'started',
        -- As the agent reports them.
        'applied', 'unchanged', 'rejected', 'write_failed', 'reload_failed_files_kept',
        'rolled_back', 'rollback_failed', 'reload_unknown', 'interrupted',
        -- The portal's own: nothing was changed on the PBX.
        'busy', 'render_failed', 'agent_unreachable', 'agent_refused', 'never_started'
    )),
    requested_by text not null,
    request_id text not null,
    source_address text not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    -- Why the outcome is neither 'applied' nor 'unchanged'.
    failure_code text,
    failure_message text,
    -- The agent's record: steps, files, what Asterisk said.
    record jsonb,
    -- Who was in the snapshot: [{"id", "name", "extension"}], as they were then.
    user_count integer not null default 0
        constraint apply_user_count_check check (user_count >= 0),
    users jsonb not null default '[]'
        constraint apply_users_check check (jsonb_typeof(users) = 'array'),
    -- The rendered files, encrypted, because they hold SIP digests. Restoring an earlier revision
    -- is an ordinary apply of these.
    bundle_encrypted bytea,
    constraint apply_pbx_revision_key unique (pbx_id, revision),
    constraint apply_ended_check check ((outcome = 'started') = (ended_at is null)),
    constraint apply_bundle_check check (
        (revision is null) = (digest is null) and (revision is null) = (bundle_encrypted is null)
    ),
    constraint apply_failure_check check ((failure_code is null) = (failure_message is null))
);

-- The reconciler's question, asked every 30 s and before each apply.
create index apply_started_idx on apply (pbx_id) where outcome = 'started';
