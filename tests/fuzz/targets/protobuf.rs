//! Bodies in protobuf: what can be read can be written, and read again.
#![no_main]

use api::protobuf;
use api::schema::conform;
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 6] = [
    "core/v1.Pod",
    "core/v1.Secret",
    "events/v1.Event",
    "apps/v1.Deployment",
    "apiextensions/v1.CustomResourceDefinition",
    "meta/v1.DeleteOptions",
];

fuzz_target!(|data: &[u8]| {
    let _ = protobuf::open(data);
    let Some((which, data)) = data.split_first() else { return };
    let schema = resources::schema();
    let Some(id) = schema.find(KINDS[usize::from(*which) % KINDS.len()]) else { return };
    let Ok(mut read) = protobuf::decode(&schema, id, data) else { return };
    let fits = conform(&schema, id, &mut read).is_ok();
    if let (true, Ok(written)) = (fits, protobuf::encode(&schema, id, &read)) {
        let again = protobuf::decode(&schema, id, &written).expect("what was written is read");
        assert_eq!(protobuf::encode(&schema, id, &again).expect("writes"), written);
    }
});
