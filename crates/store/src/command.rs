//! What members agree on: the commands in the raft log, and their encoding.
//!
//! One raft entry carries a batch of commands from one member. The batch's number lets that member
//! find the callers who wait, and the commands themselves, without decoding what it encoded.

use crate::codec::{Reader, Write};
use crate::{Compare, LeaseId, Operation, RangeRequest, Relation, Target, Txn};
use bytes::Bytes;

const VERSION: u8 = 1;

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// A transaction of a caller.
    Txn(Txn),
    /// Forget history before a revision.
    Compact { revision: u64 },
    /// Create a lease.
    LeaseGrant { id: LeaseId, seconds: u64 },
    /// End a lease, by a caller or because it ran out.
    LeaseRevoke { id: LeaseId },
    /// The leader's wall clock, so that history can be cut by age on any later leader.
    Mark { unix_millis: u64 },
}

/// Names a batch: the member that proposed it and a number that it never uses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BatchId {
    pub(crate) origin: u64,
    pub(crate) number: u64,
}

/// Encodes a batch as a raft entry's data.
pub(crate) fn encode_batch<'a>(
    id: BatchId,
    capacity: usize,
    commands: impl Iterator<Item = &'a Command>,
) -> Vec<u8> {
    let mut data = Vec::with_capacity(capacity + 17);
    data.u8(VERSION);
    data.u64(id.origin);
    data.u64(id.number);
    for command in commands {
        command.encode(&mut data);
    }
    data
}

/// The name of an encoded batch.
pub(crate) fn batch_id(data: &[u8]) -> Option<BatchId> {
    let origin = u64::from_le_bytes(data.get(1..9)?.try_into().ok()?);
    let number = u64::from_le_bytes(data.get(9..17)?.try_into().ok()?);
    (data[0] == VERSION).then_some(BatchId { origin, number })
}

/// Decodes the commands of a batch; their bytes share `data`.
pub(crate) fn decode_batch(data: Bytes) -> Option<Vec<Command>> {
    batch_id(&data)?;
    let mut reader = Reader::new(data.slice(17..));
    let mut commands = Vec::new();
    while !reader.is_empty() {
        commands.push(Command::decode(&mut reader)?);
    }
    Some(commands)
}

impl Command {
    /// A close upper bound of the encoded size in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Txn(txn) => {
                let compares: usize = txn.compare.iter().map(compare_size).sum();
                let operations = txn.success.iter().chain(&txn.failure);
                13 + compares + operations.map(operation_size).sum::<usize>()
            }
            _ => 17,
        }
    }

    fn encode(&self, data: &mut Vec<u8>) {
        match self {
            Self::Txn(txn) => {
                data.u8(1);
                data.u32(txn.compare.len() as u32);
                data.u32(txn.success.len() as u32);
                data.u32(txn.failure.len() as u32);
                txn.compare.iter().for_each(|compare| encode_compare(compare, data));
                let operations = txn.success.iter().chain(&txn.failure);
                operations.for_each(|operation| encode_operation(operation, data));
            }
            Self::Compact { revision } => {
                data.u8(2);
                data.u64(*revision);
            }
            Self::LeaseGrant { id, seconds } => {
                data.u8(3);
                data.u64(*id);
                data.u64(*seconds);
            }
            Self::LeaseRevoke { id } => {
                data.u8(4);
                data.u64(*id);
            }
            Self::Mark { unix_millis } => {
                data.u8(5);
                data.u64(*unix_millis);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Option<Self> {
        Some(match reader.u8()? {
            1 => {
                let (compare, success, failure) = (reader.u32()?, reader.u32()?, reader.u32()?);
                let compare = (0..compare).map(|_| decode_compare(reader)).collect::<Option<Vec<_>>>()?;
                let success = (0..success).map(|_| decode_operation(reader)).collect::<Option<Vec<_>>>()?;
                let failure = (0..failure).map(|_| decode_operation(reader)).collect::<Option<Vec<_>>>()?;
                Self::Txn(Txn { compare, success, failure })
            }
            2 => Self::Compact { revision: reader.u64()? },
            3 => Self::LeaseGrant { id: reader.u64()?, seconds: reader.u64()? },
            4 => Self::LeaseRevoke { id: reader.u64()? },
            5 => Self::Mark { unix_millis: reader.u64()? },
            _ => return None,
        })
    }
}

fn compare_size(compare: &Compare) -> usize {
    match compare {
        Compare::ModRevision { key, .. } => 13 + key.len(),
        Compare::Field { start, end, target, .. } => {
            let value = if let Target::Value(value) = target { value.len() } else { 0 };
            23 + start.len() + end.len() + value
        }
    }
}

fn operation_size(operation: &Operation) -> usize {
    match operation {
        Operation::Put { key, value, .. } => 17 + key.len() + value.len(),
        Operation::Delete { start, end } => 9 + start.len() + end.len(),
        Operation::Range(range) => 26 + range.start.len() + range.end.len(),
    }
}

fn encode_compare(compare: &Compare, data: &mut Vec<u8>) {
    match compare {
        Compare::ModRevision { key, revision } => {
            data.u8(1);
            data.bytes(key);
            data.u64(*revision);
        }
        Compare::Field { start, end, relation, target } => {
            data.u8(2);
            data.bytes(start);
            data.bytes(end);
            data.u8(match relation {
                Relation::Equal => 0,
                Relation::NotEqual => 1,
                Relation::Greater => 2,
                Relation::Less => 3,
            });
            let (field, number) = match target {
                Target::Version(number) => (0, *number),
                Target::CreateRevision(number) => (1, *number),
                Target::ModRevision(number) => (2, *number),
                Target::Lease(number) => (3, *number),
                Target::Value(value) => {
                    data.u8(4);
                    return data.bytes(value);
                }
            };
            data.u8(field);
            data.u64(number);
        }
    }
}

fn decode_compare(reader: &mut Reader) -> Option<Compare> {
    Some(match reader.u8()? {
        1 => Compare::ModRevision { key: reader.bytes()?, revision: reader.u64()? },
        2 => Compare::Field {
            start: reader.bytes()?,
            end: reader.bytes()?,
            relation: match reader.u8()? {
                0 => Relation::Equal,
                1 => Relation::NotEqual,
                2 => Relation::Greater,
                3 => Relation::Less,
                _ => return None,
            },
            target: match reader.u8()? {
                0 => Target::Version(reader.u64()?),
                1 => Target::CreateRevision(reader.u64()?),
                2 => Target::ModRevision(reader.u64()?),
                3 => Target::Lease(reader.u64()?),
                4 => Target::Value(reader.bytes()?),
                _ => return None,
            },
        },
        _ => return None,
    })
}

fn encode_operation(operation: &Operation, data: &mut Vec<u8>) {
    match operation {
        Operation::Put { key, value, lease } => {
            data.u8(1);
            data.bytes(key);
            data.bytes(value);
            data.u64(*lease);
        }
        Operation::Delete { start, end } => {
            data.u8(2);
            data.bytes(start);
            data.bytes(end);
        }
        Operation::Range(range) => {
            data.u8(3);
            data.bytes(&range.start);
            data.bytes(&range.end);
            data.u64(range.limit as u64);
            data.u64(range.revision);
            data.u8(u8::from(range.keys_only));
        }
    }
}

fn decode_operation(reader: &mut Reader) -> Option<Operation> {
    Some(match reader.u8()? {
        1 => Operation::Put { key: reader.bytes()?, value: reader.bytes()?, lease: reader.u64()? },
        2 => Operation::Delete { start: reader.bytes()?, end: reader.bytes()? },
        3 => Operation::Range(RangeRequest {
            start: reader.bytes()?,
            end: reader.bytes()?,
            limit: usize::try_from(reader.u64()?).ok()?,
            revision: reader.u64()?,
            keys_only: reader.u8()? != 0,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_encoding() {
        let field = |target| Compare::Field {
            start: "a".into(),
            end: "b".into(),
            relation: Relation::Greater,
            target,
        };
        let commands = vec![
            Command::Txn(Txn {
                compare: vec![
                    Compare::unchanged("key", 7),
                    field(Target::Version(1)),
                    field(Target::CreateRevision(2)),
                    field(Target::ModRevision(3)),
                    field(Target::Lease(4)),
                    field(Target::Value("v".into())),
                ],
                success: vec![
                    Operation::Put { key: "key".into(), value: "value".into(), lease: 9 },
                    Operation::delete("other"),
                ],
                failure: vec![Operation::get("key")],
            }),
            Command::Compact { revision: 5 },
            Command::LeaseGrant { id: 6, seconds: 60 },
            Command::LeaseRevoke { id: 6 },
            Command::Mark { unix_millis: 1 },
        ];
        let id = BatchId { origin: 3, number: 4 };
        let size: usize = commands.iter().map(Command::size).sum();
        let data = encode_batch(id, size, commands.iter());
        assert!(data.len() <= size + 17, "the size is an upper bound");
        assert_eq!(batch_id(&data), Some(id));
        assert_eq!(decode_batch(data.into()), Some(commands));
    }

    #[test]
    fn garbage_is_not_a_batch() {
        for data in [&b""[..], b"\x02", b"\x01aaaaaaaabbbbbbbb\x09", b"\x01aaaaaaaabbbbbbbb\x01\x01"] {
            assert_eq!(decode_batch(Bytes::copy_from_slice(data)), None, "{data:?}");
        }
    }
}
