//! The kubelet; with the word `logger`, the process that writes one container's
//! log.

use kubelet::config::Flags;
use kubelet::logs::logger;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(logger::SUBCOMMAND) {
        return Ok(logger::run(&arguments.next().unwrap_or_default())?);
    }
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::shell::run(&common, |shell| kubelet::build::run(flags, shell))
}
