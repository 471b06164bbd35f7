-- Who signs in to the portal, and by what.

-- An account of a user has the user's role, whatever becomes of that.
alter table "user" add constraint user_role_key unique (tenant_id, user_id, role);

-- Somebody who may sign in. It may belong to a user of a tenant, whose role and status then count; an
-- administrator need not be a user and has no number then.
create table account (
    account_id uuid constraint account_pkey primary key,
    -- What is typed at sign-in: lower case, unique in the whole portal, because the tenant is not
    -- known before.
    login text not null constraint account_login_key unique
        constraint account_login_check
        check (login ~ '^[a-z0-9][a-z0-9._@+-]{1,253}$'),
    name text not null constraint account_name_check check (char_length(name) between 1 and 100),
    -- Null: of the whole portal.
    tenant_id uuid constraint account_tenant_id_fkey references tenant,
    -- Whose it is. Null: nobody's who has a phone.
    user_id uuid constraint account_user_key unique,
    role text not null,
    status text not null default 'active'
        constraint account_status_check check (status in ('active', 'suspended')),
    -- Argon2id in the PHC string format. Null: none was set yet, only a reset token leads in.
    password_hash text,
    password_set_at timestamptz,
    -- The second factor, sealed. It counts once it was confirmed.
    totp_secret_encrypted bytea,
    totp_confirmed_at timestamptz,
    -- The last time step whose code was taken: each is taken once.
    totp_last_step bigint not null default 0,
    version bigint not null default 1 constraint account_version_check check (version > 0),
    created_at timestamptz not null,
    created_by text not null,
    updated_at timestamptz not null,
    last_sign_in_at timestamptz,
    constraint account_user_fkey foreign key (tenant_id, user_id, role)
        references "user" (tenant_id, user_id, role) on update cascade,
    -- Of those who are no users only platform administrators have no tenant.
    constraint account_role_check check (
        case
            when user_id is not null then tenant_id is not null
            when tenant_id is not null then role in ('tenant_admin', 'operator')
            else role = 'platform_admin'
        end
    ),
    constraint account_password_check check ((password_hash is null) = (password_set_at is null)),
    constraint account_totp_check
        check (totp_confirmed_at is null or totp_secret_encrypted is not null)
);

-- What lists are sorted by, filtered by and searched in, of the whole portal and of one tenant.
create index account_login_idx on account (login, account_id);
create index account_created_idx on account (created_at, account_id);
create index account_role_idx on account (role, login, account_id);
create index account_status_idx on account (status, login, account_id);
create index account_tenant_login_idx on account (tenant_id, login, account_id);
create index account_tenant_created_idx on account (tenant_id, created_at, account_id);
create index account_tenant_role_idx on account (tenant_id, role, login, account_id);
create index account_tenant_status_idx on account (tenant_id, status, login, account_id);
create index account_search_idx on account
    using gin (tenant_id, (login || ' ' || lower(name)) gin_trgm_ops) with (fastupdate = off);

-- What an account comes to: the role that counts, and whether it counts at all. Sign-in, sessions and
-- API tokens all ask here.
create view acting_account as
select a.account_id, a.login, a.name, a.tenant_id, a.user_id, a.password_hash,
    a.totp_confirmed_at is not null as has_second_factor, a.role,
    a.status = 'active'
        and (a.user_id is null or (u.deleted_at is null and u.status = 'active'))
        and (a.tenant_id is null or (t.deleted_at is null and t.status = 'active')) as is_active,
    a.status, a.password_set_at, a.totp_confirmed_at as second_factor_at, a.last_sign_in_at,
    a.version, a.created_at, a.updated_at
from account a
left join "user" u on u.tenant_id = a.tenant_id and u.user_id = a.user_id
left join tenant t on t.tenant_id = a.tenant_id;

-- Each leads in once, in place of a code of the second factor. SHA-256 suffices, because they are
-- random.
create table recovery_code (
    account_id uuid not null constraint recovery_code_account_id_fkey
        references account on delete cascade,
    code_hash bytea not null constraint recovery_code_hash_check
        check (octet_length(code_hash) = 32),
    used_at timestamptz,
    constraint recovery_code_pkey primary key (account_id, code_hash)
);

-- Lets somebody set a password once, without knowing the one before.
create table password_reset (
    token_hash bytea constraint password_reset_pkey primary key
        constraint password_reset_hash_check check (octet_length(token_hash) = 32),
    account_id uuid not null constraint password_reset_account_id_fkey
        references account on delete cascade,
    created_at timestamptz not null,
    created_by text not null,
    expires_at timestamptz not null,
    used_at timestamptz
);

create index password_reset_account_idx on password_reset (account_id);

-- Somebody who has signed in. It is looked up with every request, so that its end counts at once.
create table session (
    session_id uuid constraint session_pkey primary key,
    account_id uuid not null constraint session_account_id_fkey
        references account on delete cascade,
    -- `bearer`: access and refresh tokens. `cookie`: a browser.
    kind text not null constraint session_kind_check check (kind in ('bearer', 'cookie')),
    -- Of a browser: SHA-256 of what its cookie holds.
    cookie_hash bytea constraint session_cookie_key unique
        constraint session_cookie_hash_check check (octet_length(cookie_hash) = 32),
    -- Whether a second factor was shown.
    second_factor boolean not null,
    source_address text not null,
    user_agent text not null constraint session_user_agent_check
        check (char_length(user_agent) <= 200),
    created_at timestamptz not null,
    last_used_at timestamptz not null,
    -- Unless it is used before.
    idle_until timestamptz not null,
    -- However much it is used.
    expires_at timestamptz not null,
    ended_at timestamptz,
    -- `replaced`: its browser signed in again.
    end_reason text constraint session_end_reason_check check (end_reason in (
        'signed_out', 'revoked', 'replaced', 'refresh_reused', 'password_changed',
        'account_changed'
    )),
    version bigint not null default 1 constraint session_version_check check (version > 0),
    constraint session_cookie_check check ((kind = 'cookie') = (cookie_hash is not null)),
    constraint session_ended_check check ((ended_at is null) = (end_reason is null))
);

create index session_account_idx on session (account_id, created_at, session_id);
-- What is over for long is removed in passing.
create index session_over_idx on session (least(ended_at, idle_until, expires_at));

-- Each is exchanged for the next one once. One that comes a second time was stolen, or its
-- successor was: the session ends.
create table refresh_token (
    token_hash bytea constraint refresh_token_pkey primary key
        constraint refresh_token_hash_check check (octet_length(token_hash) = 32),
    session_id uuid not null constraint refresh_token_session_id_fkey
        references session on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);

create index refresh_token_session_idx on refresh_token (session_id);
create index refresh_token_expires_idx on refresh_token (expires_at);

-- For programs. What it may do is what its account may, as far as the scopes go.
create table api_token (
    api_token_id uuid constraint api_token_pkey primary key,
    account_id uuid not null constraint api_token_account_id_fkey
        references account on delete cascade,
    name text not null constraint api_token_name_check check (char_length(name) between 1 and 60),
    token_hash bytea not null constraint api_token_hash_key unique
        constraint api_token_hash_check check (octet_length(token_hash) = 32),
    -- Names of permissions.
    scopes text[] not null constraint api_token_scopes_check check (array_length(scopes, 1) > 0),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,
    last_used_address text,
    revoked_at timestamptz,
    version bigint not null default 1 constraint api_token_version_check check (version > 0)
);

create unique index api_token_account_name_key on api_token (account_id, name)
    where revoked_at is null;
create index api_token_account_idx on api_token (account_id, created_at, api_token_id);

-- How often somebody failed to sign in, by a hash of the login, whether there is such an account or
-- not. Addresses (of IPv6: networks) from which the account was signed in to before count for
-- themselves, so that strangers cannot lock out who belongs there.
create table sign_in_failure (
    login_hash bytea not null constraint sign_in_failure_hash_check
        check (octet_length(login_hash) = 32),
    -- Empty: every address that is not known.
    source_address text not null,
    failures integer not null constraint sign_in_failure_count_check check (failures >= 0),
    last_at timestamptz not null,
    locked_until timestamptz,
    constraint sign_in_failure_pkey primary key (login_hash, source_address)
);

create index sign_in_failure_last_idx on sign_in_failure (last_at);

-- Where an account was signed in to from: an IPv4 address, or the /64 network of an IPv6 address.
create table known_address (
    account_id uuid not null constraint known_address_account_id_fkey
        references account on delete cascade,
    source_address text not null,
    last_at timestamptz not null,
    constraint known_address_pkey primary key (account_id, source_address)
);

-- What access tokens are signed with, sealed. More than one is valid while they change.
create table signing_key (
    signing_key_id uuid constraint signing_key_pkey primary key,
    key_encrypted bytea not null,
    created_at timestamptz not null
);
