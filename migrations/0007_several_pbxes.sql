-- Several PBXes: each can be made, changed and taken out of service.

alter table pbx
    -- Raised by each change of what an administrator may say about it; its ETag.
    add column version bigint not null default 1
        constraint pbx_version_check check (version > 0),
    -- The name of the transport's section in the PBX's own pjsip.conf, by transport.
    add column transports jsonb not null default '{}'
        constraint pbx_transports_check check (
            jsonb_typeof(transports) = 'object'
            and transports - array['udp', 'tcp', 'tls', 'ws', 'wss'] = '{}'
            and not jsonb_path_exists(transports, '$.* ? (@.type() != "string")')
            and not jsonb_path_exists(
                transports, '$.* ? (!(@ like_regex "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"))'
            )
        ),
    -- Null: it is in service. The row stays for the audit trail.
    add column deleted_at timestamptz,
    -- It stands in paths, and can never be mistaken for an id, which has 36 characters.
    add constraint pbx_name_check check (name ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    drop constraint pbx_name_key;

-- Of those in service. Two rows for one agent would fight over its revisions; an agent has one
-- identity, under whatever address it is reached.
create unique index pbx_name_key on pbx (name) where deleted_at is null;
create unique index pbx_agent_address_key on pbx (agent_address) where deleted_at is null;
create unique index pbx_agent_identity_key on pbx (agent_identity) where deleted_at is null;
