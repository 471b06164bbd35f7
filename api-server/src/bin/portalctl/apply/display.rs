//! The steps of an apply as they happen: with a spinner for each PBX at a terminal, as plain lines
//! elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::events::Event;
use crate::history;
use crate::output::{Output, clean, one_line};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Where all PBXes are shown.
pub(super) struct Display<'a> {
    out: &'a Output,
    spinners: Option<MultiProgress>,
    several: bool,
}

/// Where one PBX is shown.
pub(super) struct Line<'a> {
    display: &'a Display<'a>,
    pbx: String,
    spinner: Option<ProgressBar>,
}

impl<'a> Display<'a> {
    pub(super) fn new(out: &'a Output, several: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !out.json();
        Self {
            out,
            spinners: terminal.then(MultiProgress::new),
            several,
        }
    }

    pub(super) fn add(&'a self, pbx: &str) -> Line<'a> {
        let style = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})");
        let spinner = self.spinners.as_ref().map(|spinners| {
            let spinner = spinners.add(ProgressBar::new_spinner());
            if let Ok(style) = style {
                spinner.set_style(style);
            }
            spinner.set_prefix(clean(pbx));
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Line {
            display: self,
            pbx: clean(pbx),
            spinner,
        }
    }

    fn line(&self, text: &str) {
        match &self.spinners {
            Some(spinners) => spinners.suspend(|| self.out.line(text)),
            None => self.out.line(text),
        }
    }
}

impl Line<'_> {
    pub(super) fn tell(&self, event: Event) {
        let out = self.display.out;
        if out.json() {
            return;
        }
        let prefix = if self.display.several {
            format!("{}: ", self.pbx)
        } else {
            String::new()
        };
        match event {
            Event::State(state) => {
                let said = one_line(history::state(&state.state));
                match &self.spinner {
                    Some(spinner) => spinner.set_message(said),
                    None => out.line(&format!("{prefix}… {said}")),
                }
            }
            Event::Step(step) => {
                for line in history::step(out, &step) {
                    self.display.line(&format!("{prefix}{line}"));
                }
            }
            Event::Ended => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
