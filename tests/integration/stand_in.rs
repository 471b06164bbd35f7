//! A program in the place of `asterisk`, for what no real one does on demand: it notes each
//! command, does first what a test tells it, and hands the command on to the real one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Bundle;
use shared::record::Outcome;
use tests::asterisk::{Folder, Settings};
use tests::lab::Lab;
use tests::process::wait_until;
use tests::scratch::{self, Scratch};

use crate::audit::applied;
use crate::crowd::create_users;
use crate::pbx::Pbx;

const REACHED_DEADLINE: Duration = Duration::from_secs(20);

/// The command is the last argument. What a test has written for it is read into this shell, so
/// that it may also end it.
const SCRIPT: &str = r#"#!/bin/sh
dir=@DIR@
for command; do :; done
case $command in
"pjsip reload") name=pjsip ;;
"dialplan reload") name=dialplan ;;
*) name=other ;;
esac
printf '%s\n' "$command" >>"$dir/commands"
if mv "$dir/$name.once" "$dir/$name.$$" 2>/dev/null; then . "$dir/$name.$$"; fi
if [ -e "$dir/$name.always" ]; then . "$dir/$name.always"; fi
exec @ASTERISK@ "$@"
"#;

/// The commands for which a test can tell it something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reload {
    /// `pjsip reload`
    Pjsip,
    /// `dialplan reload`
    Dialplan,
}

impl Reload {
    const fn name(self) -> &'static str {
        match self {
            Self::Pjsip => "pjsip",
            Self::Dialplan => "dialplan",
        }
    }
}

/// The program.
pub(crate) struct StandIn {
    scratch: Scratch,
}

impl StandIn {
    /// One that hands every command on until it is told otherwise.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let stand_in = Self {
            scratch: Scratch::new("stand-in")?,
        };
        // The agent's account writes here.
        scratch::directory(&stand_in.dir(), 0o777)?;
        let script = SCRIPT
            .replace("@DIR@", &stand_in.dir().display().to_string())
            .replace(
                "@ASTERISK@",
                &Folder::find()?.asterisk().display().to_string(),
            );
        scratch::write(&stand_in.path(), 0o755, &script)?;
        Ok(stand_in)
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("asterisk")
    }

    /// A directory that its scripts may write to, named `$dir` in them.
    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.path().join("dir")
    }

    /// For `ASTERISK_BINARY`.
    pub(crate) fn program(&self) -> String {
        self.path().display().to_string()
    }

    /// Runs `script` before the next such command.
    pub(crate) fn once(&self, reload: Reload, script: &str) -> anyhow::Result<()> {
        scratch::write(
            &self.dir().join(format!("{}.once", reload.name())),
            0o644,
            script,
        )
    }

    /// Runs `script` before every such command.
    pub(crate) fn always(&self, reload: Reload, script: &str) -> anyhow::Result<()> {
        scratch::write(
            &self.dir().join(format!("{}.always", reload.name())),
            0o644,
            script,
        )
    }

    /// Runs `script` before every other command: the start of a throw-away Asterisk.
    pub(crate) fn before_others(&self, script: &str) -> anyhow::Result<()> {
        scratch::write(&self.dir().join("other.always"), 0o644, script)
    }

    /// Ends [`StandIn::before_others`].
    pub(crate) fn nothing_before_others(&self) {
        std::fs::remove_file(self.dir().join("other.always")).ok();
    }

    /// Every reload so far.
    pub(crate) fn reloads(&self) -> Vec<String> {
        let mut commands = self.commands();
        commands.retain(|command| command.ends_with(" reload"));
        commands
    }

    /// Ends [`StandIn::always`], and [`StandIn::once`] if it has not come to it.
    pub(crate) fn nothing(&self, reload: Reload) {
        for when in ["always", "once"] {
            std::fs::remove_file(self.dir().join(format!("{}.{when}", reload.name()))).ok();
        }
    }

    /// Replaces `target` by `text` before the next such command, as a hand would: in place.
    pub(crate) fn overwrite(
        &self,
        reload: Reload,
        target: &Path,
        text: &[u8],
    ) -> anyhow::Result<()> {
        let copy = self.dir().join("text");
        std::fs::remove_file(&copy).ok();
        let mut file = std::fs::File::options()
            .create_new(true)
            .write(true)
            .open(&copy)?;
        std::io::Write::write_all(&mut file, text)?;
        self.once(
            reload,
            &format!("cat \"$dir/text\" >'{}'\n", target.display()),
        )
    }

    /// Holds the next such command back until the value is released or dropped.
    pub(crate) fn hold(&self, reload: Reload) -> anyhow::Result<Hold> {
        let hold = Hold {
            hold: self.dir().join("hold"),
            reached: self.dir().join("reached"),
        };
        std::fs::remove_file(&hold.reached).ok();
        scratch::write(&hold.hold, 0o644, "")?;
        let wait = ": >\"$dir/reached\"\nwhile [ -e \"$dir/hold\" ]; do sleep 0.01; done\n";
        self.once(reload, wait)?;
        Ok(hold)
    }

    /// Every command so far.
    pub(crate) fn commands(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir().join("commands")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A command that is held back.
pub(crate) struct Hold {
    hold: PathBuf,
    reached: PathBuf,
}

impl Hold {
    /// Waits until the command has been given.
    pub(crate) async fn reached(&self) -> anyhow::Result<()> {
        let there = async || self.reached.exists();
        wait_until("the held command was given", REACHED_DEADLINE, there).await
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        std::fs::remove_file(&self.hold).ok();
    }
}

/// A PBX with `in_force` in force whose `asterisk` is a stand-in.
pub(crate) async fn pbx(in_force: &Bundle, env: &[(&str, &str)]) -> anyhow::Result<(Pbx, StandIn)> {
    let stand_in = StandIn::new()?;
    let program = stand_in.program();
    let env = [env, &[("ASTERISK_BINARY", program.as_str())]].concat();
    let pbx = Pbx::start_with(Settings::default(), &env).await?;
    let record = pbx.apply(in_force).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    Ok((pbx, stand_in))
}

/// Everything, with a stand-in for `asterisk`: 1000 is in force as revision 1, and 1001 waits to be
/// applied.
pub(crate) async fn lab() -> anyhow::Result<(Lab, StandIn)> {
    let stand_in = StandIn::new()?;
    let lab = Lab::builder()
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Late", "late@example.org").await?;
    Ok((lab, stand_in))
}
