//! Which step of the last build is which of the one before it.

use super::{
    properties::{CONTEXT, IMAGE},
    record::{Record, Step},
};
use std::collections::HashMap;

/// For each step of `new`, its counterpart in `old`.
///
/// Steps are matched stage by stage, in their order: first those that are the same, then, in the
/// gaps between those, by the instruction's word. So a line that was put in or taken out moves
/// nothing else.
pub(super) fn align(old: &Record, new: &Record) -> Vec<Option<usize>> {
    let mut pairs = vec![None; new.steps.len()];
    let (before, after) = (by_place(old), by_place(new));
    for (place, news) in after {
        let Some(olds) = before.get(&place) else { continue };
        let same = |o: &usize, n: &usize| {
            matches!((old.step(*o), new.step(*n)), (Some(a), Some(b)) if a.properties == b.properties
                && a.takes == b.takes && a.instruction == b.instruction)
        };
        let alike = |o: &usize, n: &usize| matches!((old.step(*o), new.step(*n)), (Some(a), Some(b)) if is_alike(a, b));
        let (mut from_old, mut from_new) = (0, 0);
        let mut anchors = common(olds, &news, same);
        anchors.push((olds.len(), news.len()));
        for (at_old, at_new) in anchors {
            let gap_old = olds.get(from_old..at_old).unwrap_or_default();
            let gap_new = news.get(from_new..at_new).unwrap_or_default();
            for (o, n) in common(gap_old, gap_new, alike) {
                set(&mut pairs, gap_new.get(n), gap_old.get(o));
            }
            set(&mut pairs, news.get(at_new), olds.get(at_old));
            (from_old, from_new) = (at_old + 1, at_new + 1);
        }
    }
    pairs
}

fn set(pairs: &mut [Option<usize>], new: Option<&usize>, old: Option<&usize>) {
    if let (Some(new), Some(old)) = (new, old)
        && let Some(pair) = pairs.get_mut(*new)
    {
        *pair = Some(*old);
    }
}

/// The steps of each stage and platform. Sources that belong to no stage are by what they are.
fn by_place(record: &Record) -> HashMap<(String, String), Vec<usize>> {
    let mut found: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, step) in record.steps.iter().enumerate() {
        let stage = match step.properties.get(CONTEXT) {
            Some(context) => format!("context {context}"),
            None => step.stage.clone(),
        };
        found.entry((step.platform.clone(), stage)).or_default().push(index);
    }
    found
}

/// Whether two steps can be one whose details changed.
fn is_alike(old: &Step, new: &Step) -> bool {
    let word =
        |step: &Step| step.instruction.split_whitespace().next().unwrap_or_default().to_uppercase();
    word(old) == word(new)
        && old.properties.contains_key(IMAGE) == new.properties.contains_key(IMAGE)
}

/// The longest common subsequence of two lists, as pairs of positions.
fn common(
    old: &[usize],
    new: &[usize],
    same: impl Fn(&usize, &usize) -> bool,
) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut lengths = vec![0_usize; (old.len() + 1) * width];
    let at = |o: usize, n: usize| o * width + n;
    let length =
        |lengths: &[usize], o: usize, n: usize| lengths.get(at(o, n)).copied().unwrap_or_default();
    for (o, one) in old.iter().enumerate().rev() {
        for (n, other) in new.iter().enumerate().rev() {
            let best = if same(one, other) {
                length(&lengths, o + 1, n + 1) + 1
            } else {
                length(&lengths, o + 1, n).max(length(&lengths, o, n + 1))
            };
            if let Some(cell) = lengths.get_mut(at(o, n)) {
                *cell = best;
            }
        }
    }
    let (mut o, mut n, mut pairs) = (0, 0, Vec::new());
    while let (Some(one), Some(other)) = (old.get(o), new.get(n)) {
        if same(one, other) {
            pairs.push((o, n));
            (o, n) = (o + 1, n + 1);
        } else if length(&lengths, o + 1, n) >= length(&lengths, o, n + 1) {
            o += 1;
        } else {
            n += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::align;
    use crate::why::record::{Record, Step};
    use std::collections::BTreeMap;

    fn record(steps: &[&str]) -> Record {
        let step = |text: &&str| Step {
            instruction: (*text).to_owned(),
            properties: BTreeMap::from([("command".to_owned(), (*text).to_owned())]),
            ..Step::default()
        };
        Record { steps: steps.iter().map(step).collect(), ..Record::default() }
    }

    #[test]
    fn a_line_put_in_or_taken_out_moves_nothing_else() {
        let old = record(&["FROM a", "RUN one", "COPY . .", "RUN two"]);
        for (new, expected) in [
            (
                vec!["FROM a", "RUN one", "COPY . .", "RUN two"],
                vec![Some(0), Some(1), Some(2), Some(3)],
            ),
            (
                vec!["FROM a", "RUN zero", "RUN one", "COPY . .", "RUN two"],
                vec![Some(0), None, Some(1), Some(2), Some(3)],
            ),
            (vec!["FROM a", "COPY . .", "RUN two"], vec![Some(0), Some(2), Some(3)]),
            (
                vec!["FROM a", "RUN uno", "COPY . .", "RUN dos"],
                vec![Some(0), Some(1), Some(2), Some(3)],
            ),
            (
                vec!["FROM a", "RUN one", "COPY src .", "RUN two"],
                vec![Some(0), Some(1), Some(2), Some(3)],
            ),
        ] {
            assert_eq!(align(&old, &record(&new)), expected, "{new:?}");
        }
    }
}
