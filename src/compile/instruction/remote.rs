//! Sources of `ADD` that the builder fetches: repositories and files of the web.

use super::files::{Transfer, Verb};
use crate::compile::epoch;
use crate::compile::error::{CompileError, Fault};
use crate::compile::git_ref::GitRef;
use crate::image::reference;
use crate::llb::{COMMAND_KEY, Constraints, CopyOptions, FileAction, Http};

impl Transfer {
    pub(super) fn add_git(
        &mut self,
        git: &GitRef,
        name: &str,
        dest: &str,
        base: &CopyOptions,
    ) -> Result<FileAction, CompileError> {
        if self.verb == Verb::Copy {
            return Err(Fault::CopyGit.into());
        }
        if let (Some(flag), Some(address)) = (self.keep_git_dir, git.keep_git_dir)
            && flag != address
        {
            return Err(Fault::KeepGitDir.into());
        }
        // What one address says holds for those behind it too.
        self.keep_git_dir = git.keep_git_dir.or(self.keep_git_dir);
        if !git.checksum.is_empty() {
            if !self.checksum.is_empty() && self.checksum != git.checksum {
                let (flag, address) = (self.checksum.clone(), git.checksum.clone());
                return Err(Fault::GitChecksum { flag, address }.into());
            }
            self.checksum.clone_from(&git.checksum);
        }
        let mut source = git.source().checksum(&self.checksum);
        if self.keep_git_dir == Some(true) {
            source = source.keep_git_dir();
        }
        let state = source.state(Constraints::named(name));
        Ok(FileAction::copy_with(&state, "/", dest, base.clone()))
    }

    pub(super) fn add_web(
        &self,
        address: &str,
        name: &str,
        dest: &str,
        base: &CopyOptions,
    ) -> Result<FileAction, CompileError> {
        if self.verb == Verb::Copy {
            return Err(Fault::CopyUrl.into());
        }
        let file = epoch::web_name(address);
        if !self.checksum.is_empty() {
            reference::check_digest(&self.checksum).map_err(Fault::Reference)?;
        }
        let state = Http::new(address)
            .filename(&file)
            .checksum(&self.checksum)
            .state(Constraints::named(name).describe(COMMAND_KEY, ""));
        let options = CopyOptions { unpack: self.unpack.unwrap_or_default(), ..base.clone() };
        Ok(FileAction::copy_with(&state, &file, dest, options))
    }
}
