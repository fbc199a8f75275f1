//! Sets of completion indexes, and how a status writes them: `0-2,5`.

use std::collections::BTreeSet;

use api::types::core::v1::Pod;

/// The annotation, and label, that carries a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A pod's index.
pub(super) fn of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// A pod's index, if it is one of the job's.
pub(super) fn within(pod: &Pod, completions: i32) -> Option<i32> {
    of(pod).filter(|index| *index < completions)
}

/// Reads a status; what cannot be read or is out of range is left out.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(completions - 1));
        }
    }
    indexes
}

/// Writes a status: runs of three or more as a range, two neighbours one by one, as upstream does.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = |(first, last): (i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_survive_a_round_trip() {
        for text in ["", "0", "0,1", "0-2", "0,2-4,7,8,10"] {
            assert_eq!(format(&parse(text, 100)), text);
        }
        assert_eq!(format(&parse("0-9", 3)), "0-2");
    }
}
