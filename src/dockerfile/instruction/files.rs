//! `COPY` and `ADD`.

use std::collections::HashMap;

use super::{Cause, Fault, Request};
use crate::dockerfile::ast::{Add, Copy, Files, InlineSource};
use crate::dockerfile::flags::{Shape, Values};
use crate::dockerfile::heredoc::{self, Announced, Heredoc};

pub(super) fn read_add(request: &Request<'_>) -> Result<Add, Fault> {
    let (sources, dest) = sources_and_dest(request)?;
    let mut flags = request.flags(&[
        ("chown", Shape::Text),
        ("chmod", Shape::Text),
        ("link", Shape::Switch),
        ("keep-git-dir", Shape::Switch),
        ("checksum", Shape::Text),
        ("unpack", Shape::Switch),
        ("exclude", Shape::Texts),
    ])?;
    Ok(Add {
        files: files(request, sources, dest)?,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        checksum: flags.text("checksum"),
        link: flags.switch("link") == Some(true),
        exclude: excludes(&mut flags),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

pub(super) fn read_copy(request: &Request<'_>) -> Result<Copy, Fault> {
    let (sources, dest) = sources_and_dest(request)?;
    let mut flags = request.flags(&[
        ("chown", Shape::Text),
        ("from", Shape::Text),
        ("chmod", Shape::Text),
        ("link", Shape::Switch),
        ("exclude", Shape::Texts),
        ("parents", Shape::Switch),
    ])?;
    Ok(Copy {
        files: files(request, sources, dest)?,
        from: Some(flags.text("from")).filter(|from| !from.is_empty()),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link") == Some(true),
        parents: flags.switch("parents") == Some(true),
        exclude: excludes(&mut flags),
    })
}

fn excludes(flags: &mut Values) -> Vec<String> {
    flags.texts("exclude").into_iter().map(|(pattern, _)| pattern).collect()
}

fn sources_and_dest<'a>(request: &'a Request<'_>) -> Result<(&'a [String], &'a String), Fault> {
    match request.words() {
        [sources @ .., dest] if !sources.is_empty() => Ok((sources, dest)),
        _ => Err(Cause::NoDestination(request.name).into()),
    }
}

fn files(request: &Request<'_>, sources: &[String], dest: &str) -> Result<Files, Fault> {
    // A word that merely looks like one, with quotes that do not match, is a path.
    let announced = |word: &str| heredoc::announced(word).ok().flatten();
    if announced(dest).is_some() {
        return Err(Cause::HeredocDestination(request.name).into());
    }
    let contents: HashMap<&str, &Heredoc> = request
        .node
        .heredocs
        .iter()
        .map(|heredoc| (heredoc.announced.name.as_str(), heredoc))
        .collect();
    let mut files = Files { dest: dest.to_owned(), ..Files::default() };
    for source in sources {
        let Some(Announced { name, expand, chomp }) = announced(source) else {
            files.paths.push(source.clone());
            continue;
        };
        let content = contents.get(name.as_str()).map(|heredoc| heredoc.content.as_slice());
        let content = content.unwrap_or_default();
        let data = if chomp { heredoc::without_leading_tabs(content) } else { content.to_owned() };
        files.inline.push(InlineSource { name, data, expand });
    }
    Ok(files)
}
