-- What an apply changed, and bringing an earlier bundle back.

alter table apply
    -- Against the bundle that was proven last when this one was opened: counts, and the first names.
    -- Null: there was no bundle, or the two could not be compared.
    add column changes jsonb
        constraint apply_changes_check check (jsonb_typeof(changes) = 'object'),
    -- Whose bundle this attempt brought back, byte for byte. Null: it rendered what the database
    -- said.
    add column restored_from uuid constraint apply_restored_from_fkey references apply,
    -- What the portal has to say about it once it is in force, in sentences.
    add column notes jsonb not null default '[]'
        constraint apply_notes_check check (jsonb_typeof(notes) = 'array'),
    drop constraint apply_outcome_check,
    add constraint apply_outcome_check check (outcome in (
        'started',
        -- As the agent reports them.
        'applied', 'unchanged', 'rejected', 'write_failed', 'reload_failed_files_kept',
        'rolled_back', 'rollback_failed', 'reload_unknown', 'interrupted',
        -- The portal's own: nothing was changed on the PBX.
        'busy', 'render_failed', 'preview_outdated', 'restore_failed', 'agent_unreachable',
        'agent_refused', 'never_started'
    )),
    -- Rows stay for ever, bundles do not: those of old revisions are dropped, never one that may
    -- still be sent.
    drop constraint apply_bundle_check,
    add constraint apply_bundle_check check (
        (revision is null) = (digest is null)
        and (bundle_encrypted is null or revision is not null)
        and (bundle_encrypted is not null or revision is null or outcome <> 'started')
    );

-- Which bundles are kept, asked after each apply.
create index apply_bundle_idx on apply (pbx_id, revision) where bundle_encrypted is not null;

-- What is in force, asked before each apply and by every preview.
create index apply_proven_idx on apply (pbx_id, revision)
    where outcome in ('applied', 'unchanged');
