//! `[[image]]`: several images from one file, which may be made of one another.

use super::{
    BuildSection, Config, ImageSection, Located, Problem, Template,
    schema::{image, template, templates},
    table::{Table, closest},
};
use std::collections::{BTreeMap, BTreeSet};

/// What begins the value of a context that another image of the file makes.
const TARGET: &str = "target:";

/// One of several images.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTarget {
    /// What commands and contexts call it; the last part of its name where it is not said.
    pub id: Located<String>,
    /// What it is called in the registry.
    pub image: ImageSection,
    /// What it does otherwise than `[build]` says.
    pub build: BuildSection,
}

impl ImageTarget {
    /// Reads one, which stands in the list of `[[image]]`.
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let span = table.span();
        let id = table.string("id", problems);
        let mut build = BuildSection {
            context: template(&mut table, "context", problems),
            file: template(&mut table, "file", problems),
            platforms: templates(&mut table, "platforms", problems),
            target: template(&mut table, "target", problems),
            ..BuildSection::default()
        };
        for (key, place) in [("args", &mut build.args), ("contexts", &mut build.contexts)] {
            for (name, text) in table.string_map(key, problems) {
                if let Some(template) = Template::parse(text, problems) {
                    place.insert(name, template);
                }
            }
        }
        let image = image(table, problems);
        let id = id.or_else(|| {
            let source = image.name.as_ref()?.source();
            let last = source.rsplit('/').next().filter(|last| !last.contains(['{', ':']))?;
            Some(Located { value: last.to_owned(), span: image.name.as_ref()?.span() })
        });
        if id.as_ref().is_none_or(|id| id.value.is_empty()) {
            problems.push(Problem {
                message: "an `[[image]]` has no `id`".to_owned(),
                span,
                hint: Some("add `id = \"NAME\"`, or a `name` whose last part can be it".to_owned()),
            });
        }
        Some(Self { id: id?, image, build })
    }

    /// The images that its contexts are, with the places that say so.
    fn made_of(&self) -> impl Iterator<Item = (String, &Template)> {
        self.build.contexts.values().filter_map(|context| {
            let source = context.source();
            Some((source.strip_prefix(TARGET)?.to_owned(), context))
        })
    }
}

/// Reports ids that are there twice, contexts that no image makes, and images made of themselves.
pub(super) fn check(images: &[ImageTarget], problems: &mut Vec<Problem>) {
    let mut known = BTreeMap::new();
    for image in images {
        if known.insert(image.id.value.as_str(), image).is_some() {
            problems.push(Problem {
                message: format!("two `[[image]]` have the id `{}`", image.id.value),
                span: image.id.span.clone(),
                hint: Some("give one of them another `id`".to_owned()),
            });
        }
    }
    let names: Vec<&str> = known.keys().copied().collect();
    for image in images {
        for (target, place) in image.made_of() {
            if !known.contains_key(target.as_str()) {
                problems.push(Problem {
                    message: format!("no `[[image]]` has the id `{target}`"),
                    span: place.span(),
                    hint: Some(match closest(&target, &names) {
                        Some(near) => format!("did you mean `{TARGET}{near}`?"),
                        None => format!("there are {}", names.join(", ")),
                    }),
                });
            }
        }
    }
    let mut told = BTreeSet::new();
    for image in images {
        let mut path = vec![image.id.value.clone()];
        if let Some(circle) = circle(&known, &mut path)
            && told.insert(circle.iter().cloned().collect::<BTreeSet<_>>())
        {
            problems.push(Problem {
                message: format!("an image is made of itself: `{}`", circle.join("` → `")),
                span: image.id.span.clone(),
                hint: Some(
                    "take one of the contexts out, or move what they share into a third".to_owned(),
                ),
            });
        }
    }
}

/// The way from the last of `path` back to one that is in it already.
fn circle(known: &BTreeMap<&str, &ImageTarget>, path: &mut Vec<String>) -> Option<Vec<String>> {
    let image = known.get(path.last()?.as_str())?;
    for (target, _) in image.made_of() {
        let at = path.iter().position(|known| *known == target);
        path.push(target);
        let found = match at {
            Some(at) => path.get(at..).map(<[String]>::to_vec),
            None => circle(known, path),
        };
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

impl Config {
    /// What the file says of one of several images: `[build]` with what the image does otherwise.
    /// None where it has no such image.
    pub fn of_image(&self, id: &str) -> Option<Self> {
        let image = self.sections.images.iter().find(|image| image.id.value == id)?;
        let mut config = self.clone();
        config.sections.images.clear();
        config.sections.image = image.image.clone();
        let (build, own) = (&mut config.sections.build, &image.build);
        let over = |place: &mut Option<Template>, own: &Option<Template>| {
            if own.is_some() {
                place.clone_from(own);
            }
        };
        // Another context has another Dockerfile.
        if own.context.is_some() {
            build.file = None;
        }
        over(&mut build.context, &own.context);
        over(&mut build.file, &own.file);
        over(&mut build.target, &own.target);
        if own.platforms.is_some() {
            build.platforms.clone_from(&own.platforms);
        }
        build.args.extend(own.args.clone());
        build.contexts.extend(own.contexts.clone());
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    fn problems(text: &str) -> Vec<(String, String)> {
        let Err(ConfigError::Invalid { problems, .. }) = Config::parse("f".into(), text.to_owned())
        else {
            panic!("{text} was taken");
        };
        let told =
            |problem: crate::config::Problem| (problem.message, problem.hint.unwrap_or_default());
        problems.into_iter().map(told).collect()
    }

    #[test]
    fn an_image_is_what_build_says_and_it_says_otherwise() {
        let text = "[build]\nfile = \"D\"\ntarget = \"t\"\nargs = { A = \"1\", B = \"1\" }\n\
                    [[image]]\nname = \"r.example/me/api\"\ntags = [\"1\"]\nargs = { B = \"2\" }\n\
                    [[image]]\nid = \"web\"\ncontext = \"web\"\ncontexts = { lib = \"target:api\" }\n";
        let config = Config::parse("f".into(), text.to_owned()).unwrap();
        let api = config.of_image("api").unwrap().sections;
        let source = |template: &Option<crate::config::Template>| {
            template.as_ref().map(crate::config::Template::source)
        };
        assert_eq!(source(&api.build.file).as_deref(), Some("D"));
        assert_eq!(api.build.args["B"].source(), "2");
        assert_eq!(api.build.args["A"].source(), "1");
        assert_eq!(source(&api.image.name).as_deref(), Some("r.example/me/api"));
        let web = config.of_image("web").unwrap().sections;
        assert_eq!((source(&web.build.file), source(&web.image.name)), (None, None));
        assert_eq!(source(&web.build.target).as_deref(), Some("t"));
        assert_eq!(config.of_image("no"), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, message, hint) in [
            ("[[image]]\ntags = []\n", "an `[[image]]` has no `id`", "add `id"),
            (
                "[[image]]\nid = \"a\"\n[[image]]\nid = \"a\"\n",
                "two `[[image]]` have the id `a`",
                "give one",
            ),
            (
                "[[image]]\nid = \"base\"\n[[image]]\nid = \"b\"\ncontexts = { x = \"target:bas\" }\n",
                "no `[[image]]` has the id `bas`",
                "did you mean `target:base`?",
            ),
            (
                "[[image]]\nid = \"a\"\ncontexts = { x = \"target:b\" }\n\
                 [[image]]\nid = \"b\"\ncontexts = { x = \"target:c\" }\n\
                 [[image]]\nid = \"c\"\ncontexts = { x = \"target:a\" }\n",
                "an image is made of itself: `a` → `b` → `c` → `a`",
                "take one",
            ),
            (
                "[[image]]\nid = \"a\"\ntarqet = \"x\"\n",
                "unknown key `tarqet` in `[image]`",
                "did you mean `target`?",
            ),
        ] {
            let found = problems(text);
            let [(told, mend)] = &found[..] else { panic!("{text}: {found:?}") };
            assert!(told == message && mend.starts_with(hint), "{text}: {found:?}");
        }
    }
}
