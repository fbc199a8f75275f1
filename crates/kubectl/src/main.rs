//! The `kubectl` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(kubectl::run(std::env::args_os()));
    // A blocked read of standard input must not hold the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}
