//! What a process uses, as the kernel counts it.

use std::time::Duration;

use anyhow::Context as _;

/// Memory now, and processor time so far.
pub(crate) struct Usage {
    pub(crate) resident_mib: f64,
    pub(crate) cpu: Duration,
}

impl Usage {
    /// Reads it from `/proc`.
    pub(crate) fn of(id: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let stat = read("stat")?;
        let after_name = stat.rsplit_once(')').context("read stat")?.1;
        let mut fields = after_name.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|text| text.parse::<u64>().ok()).context("read stat");
        // USER_HZ is 100 on Linux.
        let cpu = Duration::from_millis((ticks()? + ticks()?) * 10);
        let status = read("status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("read VmRSS")?;
        let kib: f64 = line.split_ascii_whitespace().nth(1).context("read VmRSS")?.parse()?;
        Ok(Self { resident_mib: kib / 1024.0, cpu })
    }
}
