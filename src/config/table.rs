//! Reads a parsed TOML document key by key. What is wrong is collected, so that one run shows every
//! mistake; what nobody asked for is an unknown key.

use super::{Located, Problem};
use serde_json::Value as Json;
use std::{collections::BTreeMap, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A table of the document, and which of its keys were asked for.
pub(super) struct Table<'a> {
    /// Its dotted name; empty for the document.
    name: String,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    span: Range<usize>,
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn document(entries: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            name: String::new(),
            entries: entries.get_ref(),
            asked: Vec::new(),
            span: entries.span(),
        }
    }

    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Each entry: its key and its value as a table, for tables whose keys are names.
    pub(super) fn tables(&self, problems: &mut Vec<Problem>) -> Vec<(Located<String>, Self)> {
        let mut tables = Vec::new();
        for (key, value) in self.entries {
            let name = Located { value: key.get_ref().to_string(), span: key.span() };
            if let Some(table) = self.as_table(&name.value, value, problems) {
                tables.push((name, table));
            }
        }
        tables
    }

    /// A table below this one.
    pub(super) fn table(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<Self> {
        let value = self.value(key)?;
        self.as_table(key, value, problems)
    }

    /// Whether a key's value is a list. The key counts as asked for.
    pub(super) fn is_array(&mut self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_array().is_some())
    }

    /// An array of tables below this one.
    pub(super) fn array(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(elements) = value.get_ref().as_array() else {
            problems.push(self.wrong_type(key, value, "an array of tables"));
            return Vec::new();
        };
        elements.iter().filter_map(|element| self.as_table(key, element, problems)).collect()
    }

    /// A text.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<String>> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            problems.push(self.wrong_type(key, value, "a string"));
        }
        Some(Located { value: text?, span: value.span() })
    }

    /// A text that is one of `known`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        known: &[(&str, T)],
        problems: &mut Vec<Problem>,
    ) -> Option<Located<T>> {
        let text = self.string(key, problems)?;
        let found = known.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            problems.push(Problem {
                message: format!("`{}` cannot be `{}`", self.path(key), text.value),
                span: text.span.clone(),
                hint: Some(format!("write {}", names.join(" or "))),
            });
        }
        Some(Located { value: found?, span: text.span })
    }

    /// A list of texts.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Located<String>>> {
        let value = self.value(key)?;
        let Some(elements) = value.get_ref().as_array() else {
            problems.push(self.wrong_type(key, value, "a list of strings"));
            return None;
        };
        let mut strings = Vec::new();
        for element in elements {
            match element.get_ref().as_str() {
                Some(text) => {
                    strings.push(Located { value: text.to_owned(), span: element.span() });
                }
                None => problems.push(self.wrong_type(key, element, "a list of strings")),
            }
        }
        Some(strings)
    }

    /// A table of texts.
    pub(super) fn string_map(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, Located<String>> {
        let Some(table) = self.table(key, problems) else { return BTreeMap::new() };
        let mut map = BTreeMap::new();
        for (name, value) in table.entries {
            match value.get_ref().as_str() {
                Some(text) => {
                    let located = Located { value: text.to_owned(), span: value.span() };
                    map.insert(name.get_ref().to_string(), located);
                }
                None => problems.push(table.wrong_type(name.get_ref(), value, "a string")),
            }
        }
        map
    }

    /// True or false.
    pub(super) fn boolean(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<bool>> {
        let value = self.value(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            problems.push(self.wrong_type(key, value, "true or false"));
        }
        Some(Located { value: truth?, span: value.span() })
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u16>,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<u16>> {
        let value = self.value(key)?;
        let number = integer(value.get_ref())
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            problems.push(self.wrong_type(key, value, &expected));
        }
        Some(Located { value: number?, span: value.span() })
    }

    /// Any value, as JSON.
    pub(super) fn json(&mut self, key: &'static str) -> Option<Located<Json>> {
        let value = self.value(key)?;
        Some(Located { value: to_json(value.get_ref()), span: value.span() })
    }

    /// Whether a key's value is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Reports every key that nobody asked for.
    pub(super) fn refuse_unknown_keys(self, problems: &mut Vec<Problem>) {
        for key in self.entries.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let place = match self.name.as_str() {
                "" => "at the top level".to_owned(),
                name => format!("in `[{name}]`"),
            };
            problems.push(Problem {
                message: format!("unknown key `{name}` {place}"),
                span: key.span(),
                hint: Some(match closest(name, &self.asked) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the keys {place} are {}", self.asked.join(", ")),
                }),
            });
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.entries.get(key)
    }

    fn as_table(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let Some(entries) = value.get_ref().as_table() else {
            problems.push(self.wrong_type(key, value, "a table"));
            return None;
        };
        Some(Self { name: self.path(key), entries, asked: Vec::new(), span: value.span() })
    }

    /// The dotted name of a key.
    pub(super) fn path(&self, key: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let is_bare = !key.is_empty() && key.chars().all(bare);
        let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Problem {
        Problem {
            message: format!("`{}` must be {expected}", self.path(key)),
            span: value.span(),
            hint: None,
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn to_json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(_) => integer(value).map_or(Json::Null, Json::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(truth) => Json::from(*truth),
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(elements) => {
            elements.iter().map(|element| to_json(element.get_ref())).collect()
        }
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// The known word that is most like `word`, if one is.
pub(super) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, here) in left.chars().enumerate() {
        let mut next = vec![at + 1];
        for ((there, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let beside = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(beside + 1).min(diagonal + usize::from(here != *there)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_closest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["platforms", "target", "tags", "args"];
        let table = [
            ("platform", Some("platforms")),
            ("tag", Some("tags")),
            ("tarqet", Some("target")),
            ("arg", Some("args")),
            ("push", None),
            ("", None),
        ];
        for (word, expected) in table {
            assert_eq!(closest(word, &known), expected, "{word}");
        }
    }
}
