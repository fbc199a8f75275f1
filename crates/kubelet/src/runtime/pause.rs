//! The program that holds a shared process namespace: there is no pause image
//! to pull, so it is built here, as the smallest possible static executable.
//!
//! It ignores SIGCHLD (so the kernel reaps orphans that it inherits) and sleeps
//! forever. Only pods with `shareProcessNamespace` need it; everything else
//! that a sandbox shares is pinned as a file.

/// Its path in its own root file system.
pub const PATH: &str = "/pause";

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// x86-64: `rt_sigaction(SIGCHLD, {SIG_IGN}, 0, 8); for (;;) pause();` and the
/// action structure behind it.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0xb8, 0x0d, 0x00, 0x00, 0x00, // mov eax, 13 (rt_sigaction)
    0xbf, 0x11, 0x00, 0x00, 0x00, // mov edi, 17 (SIGCHLD)
    0x48, 0x8d, 0x35, 0x17, 0x00, 0x00, 0x00, // lea rsi, [rip + 23] (the action)
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
    0x0f, 0x05, // syscall
    0xb8, 0x22, 0x00, 0x00, 0x00, // again: mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp again
    0x90, 0x90, 0x90, 0x90, // align
    0x01, 0, 0, 0, 0, 0, 0, 0, // SIG_IGN
    0x00, 0, 0, 0x04, 0, 0, 0, 0, // SA_RESTORER, which the kernel asks for
    0, 0, 0, 0, 0, 0, 0, 0, // restorer, never used
    0, 0, 0, 0, 0, 0, 0, 0, // mask
];

/// AArch64: the same with `ppoll(0, 0, 0, 0)`, for want of `pause`.
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xc8, 0x10, 0x80, 0xd2, // mov x8, #134 (rt_sigaction)
    0x20, 0x02, 0x80, 0xd2, // mov x0, #17 (SIGCHLD)
    0x61, 0x01, 0x00, 0x10, // adr x1, #44 (the action)
    0x02, 0x00, 0x80, 0xd2, // mov x2, #0
    0x03, 0x01, 0x80, 0xd2, // mov x3, #8
    0x01, 0x00, 0x00, 0xd4, // svc #0
    0x28, 0x09, 0x80, 0xd2, // again: mov x8, #73 (ppoll)
    0x00, 0x00, 0x80, 0xd2, // mov x0, #0
    0x01, 0x00, 0x80, 0xd2, // mov x1, #0
    0x03, 0x00, 0x80, 0xd2, // mov x3, #0
    0x01, 0x00, 0x00, 0xd4, // svc #0
    0xfb, 0xff, 0xff, 0x17, // b again
    0x1f, 0x20, 0x03, 0xd5, // nop
    0x01, 0, 0, 0, 0, 0, 0, 0, // SIG_IGN
    0, 0, 0, 0, 0, 0, 0, 0, // flags
    0, 0, 0, 0, 0, 0, 0, 0, // restorer
    0, 0, 0, 0, 0, 0, 0, 0, // mask
];

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The executable file.
#[must_use]
pub fn executable() -> Vec<u8> {
    let length = HEADERS + CODE.len() as u64;
    let mut file = Vec::with_capacity(256);
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend(2_u16.to_le_bytes()); // an executable
    file.extend(MACHINE.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + HEADERS).to_le_bytes()); // entry
    file.extend(64_u64.to_le_bytes()); // program headers
    file.extend(0_u64.to_le_bytes()); // no sections
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // load
    file.extend(5_u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_sleeps_until_killed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("pause");
        std::fs::write(&path, super::executable()).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut child = std::process::Command::new(&path).spawn().expect("it starts");
        let status = std::path::PathBuf::from(format!("/proc/{}/status", child.id()));
        // SIGCHLD is bit 17 of the ignored signals once it has begun to sleep.
        let deadline = std::time::Duration::from_secs(5);
        let begun = crate::time::monotonic();
        let is_asleep = || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let ignored = text
                .lines()
                .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
            text.contains("S (sleeping)") && ignored.is_some_and(|mask| mask & (1 << 16) != 0)
        };
        while !is_asleep() && begun.elapsed() < deadline {
            std::thread::yield_now();
        }
        let slept = is_asleep();
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        child.kill().expect("kill");
        assert!(slept, "{text}");
        assert!(!child.wait().expect("wait").success());
    }
}
