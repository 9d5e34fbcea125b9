//! Global arguments: those before the first `FROM`.

use std::collections::{BTreeMap, BTreeSet};

use super::dispatch::MAX_WRITTEN;
use super::error::{CompileError, Fault};
use super::target::Target;
use crate::dockerfile::lint::rules;
use crate::image::reference::Reference;
use crate::llb::Env;

impl Target<'_> {
    /// Gives global arguments their values.
    pub(super) fn read_global_args(&mut self) -> Result<(), CompileError> {
        let (env, declared) = self.global_values(&self.build_args)?;
        self.global_args = env;
        self.declared = declared;
        Ok(())
    }

    /// Warns where a base has no valid name unless build arguments give it one.
    pub(super) fn check_default_bases(&mut self) {
        let Ok((env, _)) = self.global_values(&BTreeMap::new()) else { return };
        let rule = &rules::INVALID_DEFAULT_ARG_IN_FROM;
        for stage in &self.input.dockerfile.stages {
            let Ok(expansion) = self.expander.word(&stage.from.base, &env) else { return };
            if Reference::parse(&expansion.text).is_err() {
                let message = (rule.message)(&stage.from.base);
                self.linter.report(rule, stage.origin.lines, message);
            }
        }
    }

    fn global_values(
        &self,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(Env, BTreeSet<String>), CompileError> {
        let mut env = self.global_args.clone();
        let mut declared = BTreeSet::new();
        let mut written = 0_usize;
        for global in &self.input.dockerfile.global_args {
            for name in &global.arg.names {
                let value = match (build_args.get(&name.key), &name.value) {
                    (Some(given), _) => Some(given.clone()),
                    (None, None) => None,
                    (None, Some(default)) => {
                        let expansion = self.expander.word(default, &env).map_err(|error| {
                            CompileError::new(Fault::from(error)).at(Some(global.origin.lines))
                        })?;
                        Some(expansion.text)
                    }
                };
                if let Some(value) = value {
                    written = written.saturating_add(value.len());
                    if written > MAX_WRITTEN {
                        let fault = Fault::Swollen { limit: MAX_WRITTEN };
                        return Err(CompileError::new(fault).at(Some(global.origin.lines)));
                    }
                    env.set(&name.key, &value);
                }
                declared.insert(name.key.clone());
            }
        }
        Ok((env, declared))
    }
}
