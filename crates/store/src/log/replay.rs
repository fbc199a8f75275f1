//! Opening a log: what is on disk after any crash becomes the state in memory.

use super::frame::{self, Item};
use super::segment::{self, Segment};
use super::{Log, LogOptions, check_free};
use crate::StoreError;
use raft::eraftpb::{ConfState, HardState};
use std::collections::VecDeque;

impl Log {
    /// Opens the log in its directory, or starts one with the given members.
    pub(crate) fn open(options: LogOptions) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&options.dir)
            .map_err(|source| StoreError::io("create the log directory", &options.dir, source))?;
        let sequences = segment::list(&options.dir)?;
        let mut log = Self {
            segments: VecDeque::new(),
            position: segment::FIRST_FRAME,
            next_frame: 1,
            base: (0, 0),
            slots: VecDeque::new(),
            cache: VecDeque::new(),
            cached: 0,
            hard: HardState::default(),
            conf: options.members.clone(),
            snapshots: None,
            builder: frame::FrameBuilder::default(),
            options,
        };
        for (at, sequence) in sequences.iter().enumerate() {
            let segment = Segment::open(&log.options.dir, *sequence)?;
            if at > 0 && sequences[at - 1] + 1 != *sequence {
                return Err(StoreError::corrupt(segment.path(), "the segment before it is missing"));
            }
            if at == 0 {
                log.next_frame = segment.first_frame();
            } else if log.next_frame != segment.first_frame() {
                let previous = log.segments.back().expect("a segment was read before this one");
                let what = format!("frame {} is damaged", log.next_frame);
                return Err(StoreError::corrupt(previous.path(), what));
            }
            log.segments.push_back(segment);
            log.replay_segment(at + 1 == sequences.len())?;
        }
        if log.segments.is_empty() {
            check_free(&log.options)?;
        }
        if log.segments.is_empty() || log.conf == ConfState::default() {
            log.conf = log.options.members.clone();
            log.open_segment((0, 0), None)?;
        } else if log.position == segment::FIRST_FRAME {
            // The crash came between the creation of the segment and its first frame.
            let last = log.last();
            log.write_base((last, log.term_of(last)), None)?;
        }
        Ok(log)
    }

    fn replay_segment(&mut self, is_last: bool) -> Result<(), StoreError> {
        let segment = self.segments.back().expect("the segment was just pushed");
        let salt = segment.salt();
        let content = segment.read_all()?;
        self.position = segment::FIRST_FRAME;
        loop {
            let rest = content.get(self.position as usize..).unwrap_or_default();
            let Some(body) = frame::read(rest, salt, self.next_frame) else { break };
            let segment = self.segments.back().expect("the segment was just pushed");
            let items = frame::items(body, segment)?;
            let (number, position) = (self.next_frame, self.position);
            self.position += frame::padded((frame::HEADER + body.len()) as u64);
            self.next_frame += 1;
            self.replay(items, number, position);
        }
        if is_last { self.cut_tail(&content) } else { Ok(()) }
    }

    /// What follows the last readable frame was never acknowledged, unless a later frame exists.
    fn cut_tail(&mut self, content: &[u8]) -> Result<(), StoreError> {
        let tail = content.get(self.position as usize..).unwrap_or_default();
        let segment = self.segments.back_mut().expect("the segment was just pushed");
        if frame::any_follows(tail, segment.salt(), self.next_frame) {
            let what = format!("frame {} at byte {} is damaged", self.next_frame, self.position);
            return Err(StoreError::corrupt(segment.path(), what));
        }
        if tail.iter().any(|byte| *byte != 0) {
            tracing::warn!(
                file = %segment.path().display(),
                position = self.position,
                "cut the raft log behind its last whole frame"
            );
            segment.clear_from(self.position)?;
        }
        Ok(())
    }

    fn replay(&mut self, items: Vec<Item>, number: u64, position: u64) {
        let mut entries = Vec::new();
        for item in items {
            match item {
                Item::Base { index, term } => {
                    if self.segments.len() == 1 {
                        self.base = (index, term);
                    }
                }
                Item::Hard(hard) => self.hard = hard,
                Item::Conf(conf) => self.conf = conf,
                Item::Entry(entry) => entries.push(entry),
                Item::Snapshot(metadata) => {
                    self.base = (metadata.index, metadata.term);
                    self.conf = metadata.conf_state.unwrap_or_default();
                    self.slots.clear();
                    self.cache.clear();
                    self.cached = 0;
                }
            }
        }
        self.remember(entries, number, position);
    }
}
