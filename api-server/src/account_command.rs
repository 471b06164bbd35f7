//! `api-server account …`: what whoever has the host does to accounts, by the same services as over
//! HTTP. It is the way in when nobody can sign in.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api_server::clock::{Clock as _, SystemClock, os_rng, unix_ms};
use api_server::config::KeyConfig;
use api_server::db;
use api_server::domain::account::{Account, NewAccount, Seat};
use api_server::domain::password::Password;
use api_server::domain::tenant::Slug;
use api_server::domain::{Actor, DisplayName, Invalid, Login, RequestId, Role, TenantId, uuid_v7};
use api_server::services::password_resets::Issued;
use api_server::services::work::Work;
use api_server::services::{accounts, password_resets};
use clap::Subcommand;
use shared::config::process_env;
use time::format_description::well_known::Rfc3339;

use super::{print, run};

/// Largest password file, in bytes: 128 characters of UTF-8, and a line end.
const PASSWORD_BYTES_MAX: u64 = 4 * 128 + 2;

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Create an account, for the first administrator above all
    Create {
        /// What is typed at sign-in
        #[arg(value_parser = parsed::<Login>)]
        login: Login,
        /// Who that is, in words
        #[arg(long, value_parser = parsed::<DisplayName>)]
        name: DisplayName,
        /// `platform_admin`, or with --tenant `tenant_admin` or `operator`
        #[arg(long, value_parser = parsed::<Role>, default_value = "platform_admin")]
        role: Role,
        /// The slug of the tenant that it belongs to
        #[arg(long, value_parser = parsed::<Slug>)]
        tenant: Option<Slug>,
        /// Where its password stands, `-` for standard input; a token that sets it once is printed
        /// when absent
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Print a token that sets the password of an account, once
    Reset {
        /// Whose
        #[arg(value_parser = parsed::<Login>)]
        login: Login,
    },
    /// Let an account be signed in to again at once after too many failures
    Unlock {
        /// Whose
        #[arg(value_parser = parsed::<Login>)]
        login: Login,
    },
}

/// Reads an argument. Its text is repeated by nobody but clap, and there are no secrets among them.
fn parsed<T: std::str::FromStr<Err = Invalid>>(text: &str) -> Result<T, Invalid> {
    text.parse()
}

/// Carries a command out on the database of `DATABASE_URL`.
pub(super) fn carry_out(command: AccountCommand) -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = KeyConfig::read(&process_env)?;
    let said = run(async {
        let mut connection = super::connect(config.database).await?;
        db::data_keys::ensure(&mut connection, &config.vault).await?;
        let audit_key = db::audit::ensure_key(&mut connection, &config.vault).await?;
        let now = SystemClock.now();
        let request = RequestId::from(uuid_v7(unix_ms(now), &mut os_rng()));
        let actor = Actor::command_line(request);
        let mut work = Work::on(&mut connection, (&config.vault, audit_key), &actor, now).await?;
        let said = changed(&mut work, command).await?;
        work.commit().await?;
        anyhow::Ok(said)
    })?;
    print(&said)
}

async fn changed(work: &mut Work<'_>, command: AccountCommand) -> anyhow::Result<String> {
    match command {
        AccountCommand::Create {
            login,
            name,
            role,
            tenant,
            password_file,
        } => {
            let tenant = match tenant {
                Some(slug) => Some(tenant_of(work, &slug).await?),
                None => None,
            };
            let seat = Seat::new(role, tenant).map_err(|reason| anyhow::anyhow!("{reason}"))?;
            let new = NewAccount { login, name, seat };
            create(work, new, password_file.as_deref()).await
        }
        AccountCommand::Reset { login } => {
            let id = accounts::id_of(work, &login).await?;
            let account = accounts::locked(work, id).await?;
            let issued = password_resets::issue(work, &account, &mut os_rng()).await?;
            Ok(told(&issued))
        }
        AccountCommand::Unlock { login } => {
            let id = accounts::id_of(work, &login).await?;
            accounts::unlock(work, id).await?;
            Ok(format!(
                "{login} may be signed in to again from everywhere."
            ))
        }
    }
}

async fn tenant_of(work: &mut Work<'_>, slug: &Slug) -> anyhow::Result<TenantId> {
    let tenant = db::tenants::by_slug(work.connection(), slug).await?;
    tenant.with_context(|| format!("there is no tenant {}", slug.as_str()))
}

async fn create(
    work: &mut Work<'_>,
    new: NewAccount,
    password: Option<&Path>,
) -> anyhow::Result<String> {
    let password = password.map(password_in).transpose()?;
    let account = accounts::create(work, new, &mut os_rng()).await?;
    let Account {
        id, login, role, ..
    } = &account;
    let made = format!("{login} is {} now (account {id}).", role.name());
    let Some(password) = password else {
        let issued = password_resets::issue(work, &account, &mut os_rng()).await?;
        return Ok(format!("{made}\n{}", told(&issued)));
    };
    password_resets::set_first(work, &account, password).await?;
    Ok(made)
}

fn told(issued: &Issued) -> String {
    let until = issued.expires_at.format(&Rfc3339).unwrap_or_default();
    let token = issued.token.expose();
    format!("This sets the password, once, until {until}, by POST /password-resets:\n{token}")
}

/// What stands in a file, without the end of its line.
fn password_in(file: &Path) -> anyhow::Result<Password> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin()
            .take(PASSWORD_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
    };
    let read = read.with_context(|| format!("the password in {}", file.display()))?;
    if read as u64 == PASSWORD_BYTES_MAX {
        bail!("the password: must be at most 128 characters long");
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.parse()
        .map_err(|reason: Invalid| anyhow::anyhow!("the password: {reason}"))
}
