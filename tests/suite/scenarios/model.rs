//! What a scenario file says, checked as it is read.

use serde::Deserialize;
use toml::Spanned;

use super::agent::AgentSpec;
use super::settings::Settings;
use super::step::Step;
use super::values::Period;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What it shows, in one line.
    pub(super) about: String,
    #[serde(default)]
    pub(super) supervisor: Settings,
    pub(super) agent: Vec<Spanned<AgentSpec>>,
    #[serde(default)]
    pub(super) step: Vec<Spanned<Step>>,
    /// When it ends, where the supervisors need not rest for that.
    pub(super) end: Option<Period>,
    /// The timeline is too long to be read: a summary of it stands for it.
    #[serde(default)]
    pub(super) summary: bool,
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// With the file, the line, the field where there is one, and what is wrong.
    pub(super) fn read(file: &str, text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            place(file, text, start, error.message())
        })?;
        scenario
            .check()
            .map_err(|(start, message)| place(file, text, start, &message))?;
        Ok(scenario)
    }

    /// What no single field can tell.
    fn check(&self) -> Result<(), (usize, String)> {
        if self.agent.is_empty() {
            return Err((0, "no [[agent]]: expected at least one".to_owned()));
        }
        for (n, agent) in self.agent.iter().enumerate() {
            let name = &agent.get_ref().name;
            if self.agent[..n]
                .iter()
                .any(|other| other.get_ref().name == *name)
            {
                let message = format!("agent.name: there is an agent `{name}` already");
                return Err((agent.span().start, message));
            }
        }
        for step in &self.step {
            let start = step.span().start;
            let step = step.get_ref();
            if step.at.is_some() == step.when.is_some() {
                return Err((start, "step: expected either `at` or `when`".to_owned()));
            }
            match &step.agent {
                None if self.agent.len() > 1 => {
                    let message = "step.agent: missing, and there are several agents".to_owned();
                    return Err((start, message));
                }
                Some(name) if self.place_of(name).is_none() => {
                    return Err((start, format!("step.agent: there is no agent `{name}`")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.agent
            .iter()
            .position(|agent| agent.get_ref().name == name)
    }

    /// Which agent the step is about.
    pub(super) fn whose(&self, step: &Step) -> usize {
        let name = step.agent.as_deref();
        name.and_then(|name| self.place_of(name)).unwrap_or(0)
    }
}

/// The message with its place: the file, the line, and the field whose value begins at `start`.
fn place(file: &str, text: &str, start: usize, message: &str) -> String {
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let on_line = before.rsplit('\n').next().unwrap_or_default();
    let key = on_line.rsplit_once('=').and_then(|(keys, _)| {
        let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        keys.trim_end().rsplit(word).next()
    });
    match key {
        Some(key) => format!("{file}:{line}: {key}: {message}"),
        None => format!("{file}:{line}: {message}"),
    }
}
