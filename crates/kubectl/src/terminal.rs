//! The terminal: raw mode that is always undone, its size, and the signals
//! that matter while a remote command owns it.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::{self, SetArg, Termios};
use tokio::signal::unix::{SignalKind, signal};
use wire::node::TerminalSize;

/// The settings to go back to, while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    io::stdin().is_terminal()
}

/// The terminal in raw mode; as it was before once this is dropped, or when
/// the program panics, which may not unwind.
pub(crate) struct Raw(());

impl Raw {
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before
        && let Err(error) = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &before)
    {
        eprintln!("error: restore the terminal: {error}");
    }
}

/// The size of the terminal that output goes to.
pub(crate) fn size() -> Option<TerminalSize> {
    let size = window::size(&io::stdout())?;
    let size = TerminalSize { width: size.ws_col.into(), height: size.ws_row.into() };
    (size.width > 0 && size.height > 0).then_some(size)
}

#[expect(unsafe_code, reason = "the size of a terminal is asked for by an ioctl only")]
mod window {
    use std::os::fd::{AsFd, AsRawFd as _};

    nix::ioctl_read_bad!(read, nix::libc::TIOCGWINSZ, nix::libc::winsize);

    pub(super) fn size(terminal: &impl AsFd) -> Option<nix::libc::winsize> {
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the kernel writes one winsize.
        unsafe { read(terminal.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
        Some(size)
    }
}

/// Waits for a signal that ends programs, and gives the exit code for it.
pub(crate) async fn ended() -> io::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let number = tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hang_up.recv() => 1,
    };
    Ok(128 + number)
}
