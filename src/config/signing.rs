//! `[sign]`: who signs what is pushed.

use super::{
    Config, Located, Origin, Problem, Setting, SettingsError, Template,
    schema::{command, template},
    settings::{Filler, rooted},
    table::Table,
};
use crate::plan::{SecretSource, SignedBy, SigningPlan};
use std::{collections::BTreeMap, ops::Range};

/// The variable with a key's password where nobody says otherwise: cosign's.
pub(super) const PASSWORD: &str = "COSIGN_PASSWORD";

/// `[sign]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignSection {
    /// Where the section stands.
    pub span: Range<usize>,
    /// Who signs.
    pub by: Option<SignSource>,
    /// The variable with the key's password.
    pub password_env: Option<Located<String>>,
    /// Words that are signed with the image's digest.
    pub annotations: BTreeMap<String, Template>,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq)]
pub enum SignSource {
    /// A private key in a file, relative to the config file.
    Key(Template),
    /// A private key in a variable.
    KeyEnv(Located<String>),
    /// A command.
    Command(Vec<Located<String>>),
}

impl SignSection {
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let span = table.span();
        let mut sources: Vec<SignSource> = Vec::new();
        sources.extend(template(&mut table, "key", problems).map(SignSource::Key));
        sources.extend(table.string("key_env", problems).map(SignSource::KeyEnv));
        sources.extend(command(&mut table, "command", problems).map(SignSource::Command));
        let password_env = table.string("password_env", problems);
        let mut annotations = BTreeMap::new();
        for (name, text) in table.string_map("annotations", problems) {
            if let Some(template) = Template::parse(text, problems) {
                annotations.insert(name, template);
            }
        }
        table.refuse_unknown_keys(problems);
        if sources.len() != 1 {
            problems.push(Problem {
                message: format!("`[sign]` names {} who sign", sources.len()),
                span: span.clone(),
                hint: Some("give exactly one of `key`, `key_env` and `command`".to_owned()),
            });
        }
        Self { span, by: sources.pop(), password_env, annotations }
    }
}

/// What flags say of signing, before the file is asked.
#[derive(Clone, Debug, Default)]
pub enum SignOverride {
    /// Nothing.
    #[default]
    Unsaid,
    /// `--sign-key`.
    Key(SecretSource),
    /// `--no-sign`.
    Off,
}

/// How what is pushed is signed: as the flag says, else as the file does. `variable` looks up
/// `{env.NAME}`.
///
/// # Errors
/// Where a value of the file cannot be had.
pub fn signing(
    given: SignOverride,
    config: Option<&Config>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Setting<Option<SigningPlan>>, SettingsError> {
    let section = config.and_then(|config| Some((config, config.sections.sign.as_ref()?)));
    let source = match given {
        SignOverride::Off => {
            return Ok(Setting { value: None, origin: Origin::Flag("--no-sign") });
        }
        SignOverride::Key(source) => Some(source),
        SignOverride::Unsaid => None,
    };
    let origin = match (&source, section) {
        (Some(_), _) => Origin::Flag("--sign-key"),
        (None, Some((config, section))) => {
            Origin::File { path: config.path.clone(), line: config.line(&section.span) }
        }
        (None, None) => Origin::Default,
    };
    let Some((config, section)) = section else {
        let by = source.map(|source| SignedBy::Key { source, password_env: PASSWORD.to_owned() });
        let value = by.map(|by| SigningPlan { by, annotations: BTreeMap::new() });
        return Ok(Setting { value, origin });
    };
    let filler = Filler { config, variable };
    let password = section.password_env.as_ref();
    let password_env = password.map_or_else(|| PASSWORD.to_owned(), |name| name.value.clone());
    let by = match (source, &section.by) {
        (Some(source), _) => SignedBy::Key { source, password_env },
        (None, Some(SignSource::Key(path))) => {
            let path = rooted(config.directory(), &filler.fill(path)?);
            SignedBy::Key { source: SecretSource::File(path.into()), password_env }
        }
        (None, Some(SignSource::KeyEnv(name))) => {
            SignedBy::Key { source: SecretSource::Env(name.value.clone()), password_env }
        }
        (None, Some(SignSource::Command(words))) => {
            SignedBy::Command(words.iter().map(|word| word.value.clone()).collect())
        }
        (None, None) => return Ok(Setting { value: None, origin }),
    };
    let annotations = section.annotations.iter();
    let annotations = annotations.map(|(name, text)| Ok((name.clone(), filler.fill(text)?)));
    let annotations = annotations.collect::<Result<_, _>>()?;
    Ok(Setting { value: Some(SigningPlan { by, annotations }), origin })
}
