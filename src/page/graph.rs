//! The graph beside the steps, as rails: a lane for each stage, a dot for each step, a line from
//! each step to those that are built on it.

use super::Step;
use std::fmt::Write as _;

/// Lanes that are drawn; stages beyond share the last.
const MOST: usize = 8;
/// Pixels between lanes.
const LANE: usize = 16;

/// What of the graph passes each row.
pub(super) struct Rails {
    /// The lane of each step.
    lanes: Vec<usize>,
    count: usize,
    /// The rows that each line leads from and to.
    lines: Vec<(usize, usize)>,
}

impl Rails {
    pub(super) fn new(steps: &[Step]) -> Self {
        let mut stages: Vec<&str> = Vec::new();
        let mut lanes = Vec::new();
        let mut lines = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let known = stages.iter().position(|stage| *stage == step.stage);
            let lane = known.unwrap_or_else(|| {
                stages.push(&step.stage);
                stages.len() - 1
            });
            lanes.push(lane.min(MOST - 1));
            lines.extend(
                step.inputs.iter().filter(|input| **input < index).map(|input| (*input, index)),
            );
        }
        let count = stages.len().clamp(1, MOST);
        Self { lanes, count, lines }
    }

    /// The rails beside one row. Rows have any height, so lines are stretched and dots are not.
    pub(super) fn row(&self, row: usize, class: &str) -> String {
        let width = self.count * LANE;
        let x = |row: usize| self.lanes.get(row).copied().unwrap_or_default() * LANE + LANE / 2;
        let mut svg = format!(
            "<div class=\"rails\" role=\"cell\" aria-hidden=\"true\" style=\"width:{width}px\">\
             <svg viewBox=\"0 0 {width} 100\" preserveAspectRatio=\"none\">"
        );
        let mut drawn: Vec<String> = Vec::new();
        for (from, to) in &self.lines {
            // A line runs down the lane of the step that it leads from, and turns into the lane of
            // the other in that one's row.
            let path = if *from == row {
                format!("M{0} 50V100", x(*from))
            } else if *to == row {
                format!("M{0} 0C{0} 30 {1} 20 {1} 50", x(*from), x(*to))
            } else if *from < row && row < *to {
                format!("M{0} 0V100", x(*from))
            } else {
                continue;
            };
            if !drawn.contains(&path) {
                let _cannot_fail =
                    write!(svg, "<path d=\"{path}\" vector-effect=\"non-scaling-stroke\"/>");
                drawn.push(path);
            }
        }
        let _cannot_fail = write!(
            svg,
            "</svg><span class=\"dot {class}\" style=\"left:{}px\"></span></div>",
            x(row)
        );
        svg
    }
}
