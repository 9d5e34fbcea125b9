//! The builder's status stream, turned into events with this machine's clock.

use crate::{
    event::{BuildStatus, ProgressGroup, Vertex, VertexLog, VertexStatus, VertexWarning},
    proto::moby::buildkit::v1 as wire,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of the year 9999, beyond which no calendar here goes.
const LAST_SECOND: i64 = 253_402_300_799;

/// How far the builder's clock is from ours, so that its times can be told in ours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Skew {
    ahead: Duration,
    behind: Duration,
}

impl Skew {
    /// The skew of a builder whose clock showed `theirs` (RFC 3339) when ours showed `ours`. None
    /// where the text is no time.
    pub fn measure(theirs: &str, ours: SystemTime) -> Option<Self> {
        let theirs = SystemTime::from(theirs.parse::<jiff::Timestamp>().ok()?);
        Some(match theirs.duration_since(ours) {
            Ok(ahead) => Self { ahead, behind: Duration::ZERO },
            Err(behind) => Self { ahead: Duration::ZERO, behind: behind.duration() },
        })
    }

    /// A time of the builder's clock in ours.
    fn ours(self, stamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
        // Go's zero time lies before the epoch and means that there is none.
        let stamp = stamp.filter(|stamp| (0..=LAST_SECOND).contains(&stamp.seconds))?;
        let since_epoch = Duration::from_secs(stamp.seconds.unsigned_abs())
            .saturating_add(Duration::from_nanos(u64::try_from(stamp.nanos).unwrap_or(0)));
        UNIX_EPOCH.checked_add(since_epoch)?.checked_sub(self.ahead)?.checked_add(self.behind)
    }
}

/// One message of the stream as plain data.
pub fn convert(message: wire::StatusResponse, skew: Skew) -> BuildStatus {
    BuildStatus {
        vertices: message.vertexes.into_iter().map(|vertex| convert_vertex(vertex, skew)).collect(),
        statuses: message.statuses.into_iter().map(|status| convert_status(status, skew)).collect(),
        logs: message
            .logs
            .into_iter()
            .map(|log| VertexLog {
                vertex: log.vertex,
                timestamp: skew.ours(log.timestamp),
                stream: log.stream,
                data: log.msg,
            })
            .collect(),
        warnings: message.warnings.into_iter().map(convert_warning).collect(),
    }
}

fn convert_vertex(vertex: wire::Vertex, skew: Skew) -> Vertex {
    Vertex {
        digest: vertex.digest,
        inputs: vertex.inputs,
        name: vertex.name,
        cached: vertex.cached,
        started: skew.ours(vertex.started),
        completed: skew.ours(vertex.completed),
        error: vertex.error,
        group: vertex.progress_group.map(|group| ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    }
}

fn convert_status(status: wire::VertexStatus, skew: Skew) -> VertexStatus {
    VertexStatus {
        id: status.id,
        vertex: status.vertex,
        name: status.name,
        current: status.current,
        total: status.total,
        timestamp: skew.ours(status.timestamp),
        started: skew.ours(status.started),
        completed: skew.ours(status.completed),
    }
}

fn convert_warning(warning: wire::VertexWarning) -> VertexWarning {
    let position = |position: Option<crate::proto::pb::Position>| {
        position.map_or((0, 0), |position| (position.line, position.character))
    };
    let (filename, source) =
        warning.info.map_or_else(Default::default, |info| (info.filename, info.data));
    VertexWarning {
        vertex: warning.vertex,
        level: warning.level,
        short: String::from_utf8_lossy(&warning.short).into_owned(),
        detail: warning
            .detail
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect(),
        url: warning.url,
        filename,
        source,
        ranges: warning
            .ranges
            .into_iter()
            .map(|range| (position(range.start), position(range.end)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_told_in_our_clock() {
        let stamp = Some(prost_types::Timestamp { seconds: 1_000, nanos: 500 });
        let theirs = "1970-01-01T00:15:00.25Z";
        let fast = Skew::measure(theirs, at(800)).expect("a time");
        assert_eq!(
            fast.ours(stamp),
            Some(at(900) - Duration::from_millis(250) + Duration::from_nanos(500))
        );
        let slow = Skew::measure("1970-01-01T00:15:00Z", at(960)).expect("a time");
        assert_eq!(slow.ours(stamp), Some(at(1_060) + Duration::from_nanos(500)));
        assert_eq!(Skew::measure("yesterday", at(0)), None);
    }

    #[test]
    fn times_off_the_scale_are_no_time() {
        let stamp = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        assert_eq!(Skew::default().ours(stamp(i64::MIN, 0)), None);
        assert_eq!(Skew::default().ours(stamp(i64::MAX, 0)), None);
        assert_eq!(Skew::default().ours(stamp(5, -5)), Some(at(5)));
        assert_eq!(Skew::default().ours(None), None);
    }
}
